"""Locks of numbers, thousands of them by one open file: users of a thing share its number, who replaces it is alone.

They are locks of single bytes of the file, which need not be there, and end with the process that holds them. They
belong to an open file and not to a process (Linux's OFD locks), so two threads exclude each other, too.
"""

import fcntl
import os
import struct
import threading
import time
import weakref
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_FLOCK = "hhqqi"  # struct flock: type, whence, start, length, pid
POLL_SECONDS = 0.02


class NumberedLocks:
    """The locks of one file, as one process uses them. Any number below 2^62 may be locked."""

    def __init__(self, path: Path):
        """Makes the file if it is not there. Raises OSError."""
        self._path, self._guard, self._shared = path, threading.Lock(), Counter[int]()
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        weakref.finalize(self, os.close, self._file)

    def share(self, number: int) -> None:
        """Use what has the number, beside others. Waits while somebody has it alone. Raises OSError."""
        with self._guard:
            if self._shared[number]:
                self._shared[number] += 1
                return
        _lock(self._file, fcntl.F_RDLCK, number, wait=True)  # twice is as good as once
        with self._guard:
            self._shared[number] += 1

    def release(self, number: int) -> None:
        """Give back one `share`."""
        with self._guard:
            self._shared[number] -= 1
            if not self._shared[number]:
                del self._shared[number]
                _lock(self._file, fcntl.F_UNLCK, number)

    @contextmanager
    def alone(self, number: int, seconds: float = 0.0) -> Iterator[bool]:
        """Whether nobody else, of this process either, uses what has the number, or did not within `seconds`."""
        file = os.open(self._path, os.O_RDWR | os.O_CLOEXEC)
        try:
            end = time.monotonic() + seconds
            while not (locked := _lock(file, fcntl.F_WRLCK, number)) and time.monotonic() < end:
                time.sleep(POLL_SECONDS)
            yield locked
        finally:
            os.close(file)


def _lock(file: int, kind: int, number: int, wait: bool = False) -> bool:
    """Returns whether the lock is there now; without `wait`, another may have it."""
    command = fcntl.F_OFD_SETLKW if wait else fcntl.F_OFD_SETLK
    try:
        fcntl.fcntl(file, command, struct.pack(_FLOCK, kind, os.SEEK_SET, number, 1, 0))
    except (BlockingIOError, PermissionError):  # EAGAIN, or EACCES by POSIX
        return False
    return True
