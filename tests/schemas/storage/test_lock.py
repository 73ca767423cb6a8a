"""One writer per folder without flock: refused while the holder lives, taken over once it is gone."""

import json
import multiprocessing
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from schemas.errors import CacheError
from schemas.storage import lock as module
from schemas.storage.lock import STALE_SECONDS, read_token
from tests.schemas.storage.locks import take

ROOT = Path(__file__).resolve().parents[3]


def left_by(path: Path, age: float, **changes: Any) -> str:
    """A lock of another host, touched `age` seconds ago; returns its token."""
    record = {"format": "stillroom-lock", "version": 1, "token": "0123abcd", "host": "elsewhere/pid:[1]", "pid": 7}
    path.write_text(json.dumps(record | {"started": "boot 5", "at": 0.0} | changes))
    os.utime(path, (time.time() - age, time.time() - age))
    return "0123abcd"


def test_a_lock_is_held_by_one_and_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / ".writer"
    first = take(path)
    assert first.is_held() and read_token(path) == first.token and first.owners == {first.token}
    with pytest.raises(CacheError, match=rf"busy: process {os.getpid()} on \S+, seen \d+ s ago"):
        take(path)
    assert os.listdir(tmp_path) == [".writer"]
    first.release()
    first.release()
    assert os.listdir(tmp_path) == [] and not first.is_held() and read_token(path) == ""
    second = take(path)
    assert second.token != first.token
    first.release()
    assert second.is_held()
    second.release()


def test_a_killed_process_of_this_host_is_followed_at_once(tmp_path: Path) -> None:
    path = tmp_path / ".writer"
    code = (
        "import sys, os, signal; from pathlib import Path; from tests.schemas.storage.locks import take\n"
        "print(take(Path(sys.argv[1])).token, flush=True); os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], cwd=ROOT, capture_output=True, text=True)
    said: list[str] = []
    lock = take(path, said)
    assert lock.owners == {lock.token, done.stdout.strip()} and len(lock.owners) == 2
    assert len(said) == 1 and "was left behind by process" in said[0] and said[0].endswith("it is taken over")
    lock.release()


def test_a_process_number_that_was_given_again_is_another_process(tmp_path: Path) -> None:
    path = tmp_path / ".writer"
    take(path).release()
    lock = take(path)
    record = json.loads(path.read_text())
    lock.release()
    boot = record["started"].split(" ")[0]
    left_by(path, 0, host=record["host"], pid=os.getpid(), started=f"{boot} 5")
    take(path).release()
    left_by(path, 10 * STALE_SECONDS, host=record["host"], pid=os.getpid(), started=record["started"])
    with pytest.raises(CacheError, match="busy"):  # it lives, however long it slept
        take(path)


def test_another_machine_of_the_same_name_is_judged_by_age(tmp_path: Path) -> None:
    path = tmp_path / ".writer"
    lock = take(path)
    record = json.loads(path.read_text())
    lock.release()
    left_by(path, 0, host=record["host"], pid=os.getpid(), started="another-boot 5")
    with pytest.raises(CacheError, match="busy"):
        take(path)
    left_by(path, 10 * STALE_SECONDS, host=record["host"], pid=os.getpid(), started="another-boot 5")
    take(path).release()


def test_of_another_host_the_last_touch_tells(tmp_path: Path) -> None:
    path = tmp_path / ".writer"
    left_by(path, STALE_SECONDS - 10)
    with pytest.raises(CacheError, match=r"busy: process 7 on elsewhere, seen (49|50|51) s ago"):
        take(path)
    token, said = left_by(path, STALE_SECONDS + 10), list[str]()
    lock = take(path, said)
    assert token in lock.owners and "process 7 on elsewhere, seen" in said[0]
    lock.release()
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("content", [b"", b"\xff", b"[" * 5000, b'{"format": "stillroom-lock", "version": 2}'])
def test_a_lock_that_says_nothing_is_waited_for_and_then_taken(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / ".writer"
    path.write_bytes(content)
    with pytest.raises(CacheError, match="busy: an unknown process"):
        take(path)
    os.utime(path, (0, 0))
    take(path).release()


def test_the_holder_touches_its_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BEAT_SECONDS", 0.01)
    path = tmp_path / ".writer"
    lock = take(path)
    os.utime(path, (0, 0))
    until = time.monotonic() + 10
    while path.stat().st_mtime < 1 and time.monotonic() < until:
        time.sleep(0.01)
    assert time.time() - path.stat().st_mtime < 10
    lock.release()


def test_a_lock_that_another_took_over_is_not_removed(tmp_path: Path) -> None:
    path = tmp_path / ".writer"
    lock = take(path)
    left_by(path, 0)
    assert not lock.is_held()
    lock.release()
    assert read_token(path) == "0123abcd"


def test_a_fork_does_not_give_the_lock_back(tmp_path: Path) -> None:
    path = tmp_path / ".writer"
    lock = take(path)
    child = multiprocessing.get_context("fork").Process(target=lock.release)
    child.start()
    child.join()
    assert child.exitcode == 0 and lock.is_held()
    lock.release()


def contend(folder: Path, until: float, entered: Any, clashes: Any) -> None:
    """Enter and leave; leave every fifth time without a word, with the lock of a process that is not there."""
    while time.monotonic() < until:
        try:
            lock = take(folder / ".writer")
        except CacheError:
            continue
        try:
            (folder / "inside").touch(exist_ok=False)
            with entered:
                entered.value += 1
            (folder / "inside").unlink()
        except FileExistsError:
            with clashes:
                clashes.value += 1
        if entered.value % 5:
            lock.release()
        else:
            lock._end.set()
            left_by(folder / ".writer", STALE_SECONDS + 1)


def test_of_many_that_find_a_stale_lock_one_gets_it(tmp_path: Path) -> None:
    processes = multiprocessing.get_context("fork")
    entered, clashes = processes.Value("i", 0), processes.Value("i", 0)
    left_by(tmp_path / ".writer", STALE_SECONDS + 1)
    arguments = (tmp_path, time.monotonic() + 3, entered, clashes)
    workers = [processes.Process(target=contend, args=arguments) for _ in range(6)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert clashes.value == 0 and entered.value > 50


@pytest.mark.parametrize(("kind", "said"), [("link", "is a link to nothing"), ("folder", "it is a folder")])
def test_what_is_no_lock_is_named_with_the_way_out(tmp_path: Path, kind: str, said: str) -> None:
    path = tmp_path / ".writer"
    if kind == "link":
        path.symlink_to(tmp_path / "gone")
    else:
        path.mkdir()
    with pytest.raises(OSError, match=rf"the lock {path} .*{said}.*remove it"):
        take(path)
    assert os.path.lexists(path)
