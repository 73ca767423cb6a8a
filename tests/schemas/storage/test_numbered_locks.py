import os
import threading
from pathlib import Path

import pytest

from schemas.storage.numbered_locks import NumberedLocks


@pytest.fixture
def locks(tmp_path: Path) -> NumberedLocks:
    return NumberedLocks(tmp_path / "lock")


def test_a_shared_number_is_nobodys_alone_until_all_give_it_back(locks: NumberedLocks, tmp_path: Path) -> None:
    other = NumberedLocks(tmp_path / "lock")  # another open file, as that of another process
    number = (1 << 60) - 1
    locks.share(number)
    locks.share(number)
    other.share(number)
    for gives_back in (locks, other, locks):
        with locks.alone(number) as alone:
            assert not alone
        with other.alone(number - 1) as alone:
            assert alone
        gives_back.release(number)
    with locks.alone(number) as alone, other.alone(number) as both:
        assert (alone, both) == (True, False)


def test_who_shares_waits_for_who_is_alone(locks: NumberedLocks) -> None:
    came = threading.Event()

    def share() -> None:
        locks.share(7)
        came.set()

    with locks.alone(7) as alone:
        assert alone
        waiting = threading.Thread(target=share)
        waiting.start()
        assert not came.wait(0.1)
    assert came.wait(5)
    waiting.join()


def test_locks_end_with_their_process_and_not_with_a_child(locks: NumberedLocks, tmp_path: Path) -> None:
    locks.share(1)
    if (child := os.fork()) == 0:
        NumberedLocks(tmp_path / "lock").share(2)
        os._exit(0)
    os.waitpid(child, 0)
    with locks.alone(1) as first, locks.alone(2) as second:
        assert (first, second) == (False, True)
    assert (tmp_path / "lock").stat().st_size == 0
