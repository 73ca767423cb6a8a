"""The folder of kept texts: many writers, none of which waits, damage that is never read, disks that refuse."""

import json
import multiprocessing
import os
import shutil
import signal
import time
from collections import namedtuple
from pathlib import Path

import pytest

from schemas.errors import ResourceError
from schemas.storage import atomic
from schemas.storage.lock import acquire
from tests.trainer.kept_texts.made import IDENTITY, samples, texts_of
from tests.trainer.kept_texts.same import require_same
from trainer.kept_texts import folder as module
from trainer.kept_texts.folder import IDENTITY as IDENTITY_FILE
from trainer.kept_texts.folder import LOCK, Busy, KeptFolder
from trainer.kept_texts.segment import Texts


def require_kept(folder: KeptFolder, wanted: Texts) -> None:
    found = [text for digest in wanted if (text := folder.find(digest)) is not None]
    require_same(found, list(wanted.values()))


def files(folder: KeptFolder) -> list[str]:
    return sorted(path.name for path in folder.path.iterdir())


def test_what_was_published_is_found_by_this_run_and_by_others(tmp_path: Path) -> None:
    folder, before, wanted = KeptFolder(tmp_path, IDENTITY), KeptFolder(tmp_path, IDENTITY), texts_of(samples(9))
    assert len(folder) == 0 and not list(tmp_path.iterdir())
    folder.publish(wanted)
    require_kept(folder, wanted)
    require_kept(KeptFolder(tmp_path, IDENTITY), wanted)
    assert all(before.find(digest) is None for digest in wanted)
    before.look()
    require_kept(before, wanted)
    assert len(files(folder)) == 2 and IDENTITY_FILE in files(folder)  # no lock, nothing temporary
    found = json.loads((folder.path / IDENTITY_FILE).read_text())
    assert found == {"format": "stillroom-student-texts", "version": 1, **IDENTITY}
    other = KeptFolder(tmp_path, {"meaning": 2})
    assert other.path != folder.path and len(other) == 0


def test_what_is_kept_beside_a_copy_counts_among_the_copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STILLROOM_CACHE", str(tmp_path / "home"))
    KeptFolder(tmp_path / "elsewhere", IDENTITY).publish(texts_of(samples(9)))
    assert not (tmp_path / "home").exists()
    folder = KeptFolder(tmp_path / "home" / "s3" / "bucket" / "cache.tokens", IDENTITY)
    folder.publish(texts_of(samples(9)))
    (record,) = (json.loads(path.read_text()) for path in (tmp_path / "home" / ".things").iterdir())
    (segment,) = folder.path.glob("*.arrow")
    assert (tmp_path / "home" / record["path"], record["bytes"]) == (segment, segment.stat().st_size)


def test_nothing_is_kept_twice(tmp_path: Path) -> None:
    """However the texts of two writers overlap: a writer looks for the other's first."""
    first, second = KeptFolder(tmp_path, IDENTITY), KeptFolder(tmp_path, IDENTITY)
    whole = texts_of(samples(12))
    parts = [dict(list(whole.items())[start:end]) for start, end in ((0, 6), (3, 9), (0, 9), (8, 12))]
    for writer, part in zip((first, second, first, second), parts, strict=True):
        writer.publish(part)
    assert len(list(first.path.glob("*.arrow"))) == 3  # of 0 to 5, 6 to 8, 9 to 11
    third = KeptFolder(tmp_path, IDENTITY)
    assert len(third) == 12
    require_kept(third, whole)


def test_nobody_waits_for_a_writer(tmp_path: Path) -> None:
    folder, wanted = KeptFolder(tmp_path, IDENTITY), texts_of(samples(2))
    folder.path.mkdir()
    lock = acquire(folder.path / LOCK, Busy)
    with pytest.raises(Busy):
        folder.publish(wanted)
    assert files(folder) == [LOCK]
    lock.release()
    folder.publish(wanted)
    require_kept(folder, wanted)


def test_a_damaged_segment_is_told_left_out_and_replaced(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder, sound, lost = KeptFolder(tmp_path, IDENTITY), texts_of(samples(3)), texts_of(samples(3, first=3))
    folder.publish(sound)
    before = set(files(folder))
    folder.publish(lost)
    (name,) = set(files(folder)) - before
    content = bytearray((folder.path / name).read_bytes())
    content[len(content) // 2] ^= 4
    (folder.path / name).write_bytes(content)
    again = KeptFolder(tmp_path, IDENTITY)
    assert len(again) == 3 and f"{name} is damaged" in caplog.text and "its texts are tokenized anew" in caplog.text
    require_kept(again, sound)
    again.publish(lost)
    require_kept(again, lost)
    require_kept(KeptFolder(tmp_path, IDENTITY), {**sound, **lost})
    assert len(list(folder.path.glob("*.arrow"))) == 2 and caplog.text.count("is damaged") == 1


def test_what_another_run_has_made_anew_is_not_removed(tmp_path: Path) -> None:
    folder, lost = KeptFolder(tmp_path, IDENTITY), texts_of(samples(3))
    folder.publish(lost)
    (segment,) = folder.path.glob("*.arrow")
    segment.write_bytes(segment.read_bytes()[:-1])
    first, second = KeptFolder(tmp_path, IDENTITY), KeptFolder(tmp_path, IDENTITY)  # both have seen it damaged
    first.publish(lost)
    second.publish(texts_of(samples(4)))
    assert segment.is_file() and len(list(folder.path.glob("*.arrow"))) == 2
    require_kept(second, texts_of(samples(4)))
    require_kept(KeptFolder(tmp_path, IDENTITY), texts_of(samples(4)))


def test_what_others_put_there_is_left_alone(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A folder, a link to nothing, a segment of other texts."""
    other, folder = KeptFolder(tmp_path, {"meaning": 2}), KeptFolder(tmp_path, IDENTITY)
    other.publish(texts_of(samples(2)))
    folder.publish(texts_of(samples(1)))
    (foreign,) = other.path.glob("*.arrow")
    shutil.copy(foreign, folder.path)
    (folder.path / "folder.arrow").mkdir()
    (folder.path / "link.arrow").symlink_to("nothing")
    again = KeptFolder(tmp_path, IDENTITY)
    assert len(again) == 1 and "holds something else" in caplog.text and "it is a folder" in caplog.text
    again.publish(texts_of(samples(3)))
    assert {foreign.name, "folder.arrow", "link.arrow"} <= set(files(folder))
    require_kept(again, texts_of(samples(3)))


def test_a_folder_that_goes_away_hurts_no_reader(tmp_path: Path) -> None:
    folder, wanted = KeptFolder(tmp_path, IDENTITY), texts_of(samples(5))
    folder.publish(wanted)
    shutil.rmtree(tmp_path)
    require_kept(folder, wanted)
    folder.look()
    more = texts_of(samples(3, first=5))
    folder.publish(more)
    require_kept(folder, {**wanted, **more})
    require_kept(KeptFolder(tmp_path, IDENTITY), more)


def test_room_on_the_disk_is_left_to_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, wanted = KeptFolder(tmp_path, IDENTITY), texts_of(samples(2))
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(2**40, 2**40 - 2**29, 2**29))
    with pytest.raises(ResourceError, match="only 512 MiB are free on the disk of"):
        folder.publish(wanted)
    assert files(folder) == []
    monkeypatch.undo()
    folder.publish(wanted)
    monkeypatch.setattr(module, "MOST_SEGMENTS", 1)
    with pytest.raises(ResourceError, match="holds 1 files, which is the most"):
        folder.publish(texts_of(samples(3)))


def test_a_place_that_cannot_be_written_is_read(tmp_path: Path) -> None:
    writer, wanted = KeptFolder(tmp_path, IDENTITY), texts_of(samples(2))
    writer.publish(wanted)
    file = tmp_path / "file"
    file.touch()
    nowhere = KeptFolder(file, IDENTITY)
    assert len(nowhere) == 0
    with pytest.raises(OSError, match="Not a directory"):
        nowhere.publish(wanted)


def _publish_and_die(place: Path, at: str) -> None:
    """Killed when the segment is written beside its place, or right after it got its name."""
    real = os.replace

    def replace(source: Path, target: Path) -> None:
        if str(target).endswith(".arrow"):
            if at == "after":
                real(source, target)
            os.kill(os.getpid(), signal.SIGKILL)
        real(source, target)

    os.replace = replace  # type: ignore[assignment]
    KeptFolder(place, IDENTITY).publish(texts_of(samples(4)))


@pytest.mark.parametrize("at", ["before", "after"])
def test_a_writer_that_is_killed_leaves_a_whole_segment_or_none(tmp_path: Path, at: str) -> None:
    process = multiprocessing.get_context("fork").Process(target=_publish_and_die, args=(tmp_path, at))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    folder, wanted = KeptFolder(tmp_path, IDENTITY), texts_of(samples(4))
    assert len(folder) == (4 if at == "after" else 0)
    assert any(name.endswith(".tmp") for name in files(folder)) and LOCK in files(folder)
    folder.publish(texts_of(samples(6)))  # takes the lock over, and clears up
    require_kept(KeptFolder(tmp_path, IDENTITY), texts_of(samples(6)))
    require_kept(folder, wanted)
    assert all(name == IDENTITY_FILE or name.endswith(".arrow") for name in files(folder))


def _publish_all(place: Path, first: int) -> None:
    folder, whole = KeptFolder(place, IDENTITY), list(texts_of(samples(60)).items())
    for start in range(0, 60, 6):
        part = dict((whole[first:] + whole[:first])[start : start + 6])
        while any(folder.find(digest) is None for digest in part):
            try:
                folder.publish(part)
            except Busy:
                time.sleep(0.001)


def test_four_processes_at_once_keep_every_text_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=_publish_all, args=(tmp_path, first)) for first in (0, 0, 15, 31)]
    for process in writers:
        process.start()
    for process in writers:
        process.join()
    assert [process.exitcode for process in writers] == [0] * 4
    folder = KeptFolder(tmp_path, IDENTITY)
    require_kept(folder, texts_of(samples(60)))
    assert folder._rows == 60  # in all segments together


def test_files_are_flushed_before_they_get_their_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = list[str]()
    real_sync, real_replace = atomic._sync, os.replace

    def sync(path: Path) -> None:
        steps.append(f"sync {path.name}")
        real_sync(path)

    def replace(source: Path, target: Path) -> None:
        steps.append(f"name {target.name}")
        real_replace(source, target)

    monkeypatch.setattr(atomic, "_sync", sync)
    monkeypatch.setattr(os, "replace", replace)
    folder = KeptFolder(tmp_path, IDENTITY)
    folder.publish(texts_of(samples(2)))
    (name,) = (path.name for path in folder.path.glob("*.arrow"))
    assert steps[-3:] == [f"sync {name}", f"name {name}", f"sync {folder.path.name}"]
