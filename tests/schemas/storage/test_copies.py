import gc
import logging
import os
import threading
import time
from pathlib import Path

import pytest

from schemas.errors import ConfigError, ResourceError, StorageError
from schemas.storage import copies as module
from schemas.storage.copies import Copies, Made, Thing, open_copies


class Things:
    """Files of 100 bytes, and how often each was made."""

    def __init__(self, home: Path):
        self.home, self.made = home, list[str]()

    def thing(self, name: str, state: str = "1", stays: bool = False) -> Thing:
        def make(target: Path) -> None:
            self.made.append(name)
            target.write_bytes(state.encode() * 100)

        return Thing(self.home / "s3" / name, state, lambda: Made(100, make), stays)

    @property
    def here(self) -> list[str]:
        return sorted(path.name for path in (self.home / "s3").iterdir())


@pytest.fixture
def things(tmp_path: Path) -> Things:
    return Things(tmp_path)


def test_a_thing_is_made_once_and_again_when_it_has_changed(tmp_path: Path, things: Things) -> None:
    copies = Copies(tmp_path, 1_000)
    for _ in range(2):
        copies.use(things.thing("a"))
    Copies(tmp_path, 1_000).use(things.thing("a"))
    assert things.made == ["a"]
    del copies
    copies = Copies(tmp_path / "other", 1_000)
    others = Things(tmp_path / "other")
    copies.use(others.thing("a"))
    copies.use(others.thing("a", "2"))  # this process has looked at its source again
    assert others.made == ["a", "a"]
    assert (others.home / "s3" / "a").read_bytes() == b"2" * 100


def test_what_was_made_here_counts_and_goes_once_nobody_uses_it(tmp_path: Path, things: Things) -> None:
    copies, own = Copies(tmp_path, 300, in_hand=1), tmp_path / "s3" / "own"
    own.parent.mkdir()
    own.write_bytes(b"1" * 200)
    for _ in range(2):
        copies.hold(own)
    for name in "abc":
        copies.use(things.thing(name))
    assert things.here == ["b", "c", "own"]
    os.utime(copies._record(copies._number(own)), (0, 0))
    del copies
    gc.collect()
    Copies(tmp_path, 300).use(things.thing("a"))
    assert things.here == ["a", "b", "c"]


def test_what_was_used_longest_ago_goes_and_what_is_in_use_stays(tmp_path: Path, things: Things) -> None:
    first = Copies(tmp_path, 300)
    for name in "abc":
        first.use(things.thing(name))
    second = Copies(tmp_path, 300)
    second.use(things.thing("b"))
    for number, name in enumerate("acb"):  # their last uses, in seconds
        os.utime(first._record(first._number(tmp_path / "s3" / name)), (number, number))
    del first
    gc.collect()
    second.use(things.thing("d"))
    assert things.here == ["b", "c", "d"]
    second.use(things.thing("e"))
    assert things.here == ["b", "d", "e"]
    assert things.made == list("abcde")
    second.use(things.thing("b"))
    assert things.made == list("abcde")


def test_a_process_lets_go_of_the_oldest_half_rather_than_take_more_room(
    tmp_path: Path, things: Things, caplog: pytest.LogCaptureFixture
) -> None:
    copies = Copies(tmp_path, 400, in_hand=1)
    copies.use(things.thing("stays", stays=True))
    for name in "abc":
        copies.use(things.thing(name))
    assert copies.let_go == 0
    copies.use(things.thing("a"))  # the order of use is now b, c, a; a is in hand
    copies.use(things.thing("d"))
    assert things.here == ["a", "c", "d", "stays"]
    assert copies.let_go == 1
    with caplog.at_level(logging.WARNING):
        tight = Copies(tmp_path / "tight", 100, in_hand=3)
        others = Things(tmp_path / "tight")
        for name in "abc":
            tight.use(others.thing(name))
    assert others.here == ["a", "b", "c"]
    assert caplog.text.count("holds more than its limit") == 1


def test_another_process_that_uses_an_earlier_version_is_told(
    tmp_path: Path, things: Things, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "BUSY_SECONDS", 0.05)
    reader, other = Copies(tmp_path, 1_000), Copies(tmp_path, 1_000)
    reader.use(things.thing("a"))
    with pytest.raises(StorageError, match="another process still uses the copy of before"):
        other.use(things.thing("a", "2"))
    assert (tmp_path / "s3" / "a").read_bytes() == b"1" * 100


def test_threads_make_a_thing_once(tmp_path: Path, things: Things) -> None:
    copies = Copies(tmp_path, 1_000)
    slow = things.thing("a")

    def make() -> Made:
        time.sleep(0.05)
        return slow.make()

    thing = Thing(slow.path, slow.state, make)
    threads = [threading.Thread(target=copies.use, args=(thing,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert things.made == ["a"]


def test_what_a_killed_process_leaves_goes_and_half_a_thing_is_none(tmp_path: Path, things: Things) -> None:
    if (child := os.fork()) == 0:
        copies = Copies(tmp_path, 1_000)

        def die(target: Path) -> None:
            target.write_bytes(b"1")
            os._exit(9)

        copies.use(Thing(tmp_path / "s3" / "a", "1", lambda: Made(100, die)))
    os.waitpid(child, 0)
    assert len(list((tmp_path / ".partial").iterdir())) == 1
    copies = Copies(tmp_path, 1_000)
    copies.use(things.thing("b"))
    assert list((tmp_path / ".partial").iterdir()) == []
    assert len(list((tmp_path / ".things").iterdir())) == 1
    copies.use(things.thing("a"))
    assert (tmp_path / "s3" / "a").read_bytes() == b"1" * 100
    (tmp_path / "s3" / "a").unlink()  # by a user's hand
    del copies
    gc.collect()
    Copies(tmp_path, 1_000).use(things.thing("a"))
    assert things.made == ["b", "a", "a"]


def test_what_fails_leaves_nothing_and_a_full_disk_is_said(tmp_path: Path, things: Things) -> None:
    copies = Copies(tmp_path, 1_000)

    def fail(target: Path) -> None:
        target.write_bytes(b"1")
        raise OSError(28, "No space left on device")

    with pytest.raises(ResourceError, match="no space left to write a"):
        copies.use(Thing(tmp_path / "s3" / "a", "1", lambda: Made(100, fail)))
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == [".lock"]
    copies.use(things.thing("a"))
    copies.forget(tmp_path / "s3" / "a")
    copies.forget(tmp_path / "s3" / "never")
    assert things.here == []


@pytest.mark.parametrize("said", ["much", "-1", "nan", "1e12"])
def test_a_limit_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, said: str) -> None:
    monkeypatch.setenv("STILLROOM_CACHE", str(tmp_path))
    monkeypatch.setenv("STILLROOM_CACHE_GIB", said)
    with pytest.raises(ConfigError, match="give the GiB that copies of remote files may take"):
        open_copies()


def test_the_limit_and_the_home_come_from_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("STILLROOM_CACHE", str(tmp_path))
    assert open_copies().limit == 100 * 2**30
    monkeypatch.setenv("STILLROOM_CACHE_GIB", "0.5")
    assert open_copies() is open_copies()
    assert (open_copies().limit, open_copies().home) == (2**29, tmp_path)
    (tmp_path / "file").touch()
    monkeypatch.setenv("STILLROOM_CACHE", str(tmp_path / "file"))
    with pytest.raises(StorageError, match="name another folder in STILLROOM_CACHE"):
        open_copies()
