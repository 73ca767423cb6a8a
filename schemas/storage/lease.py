"""One writer per URL: the lock of `schemas.storage.lock` as an object of a storage, which knows no rename.

It is created where there is none, which one of many processes succeeds in, and written anew every few seconds. Ages are
by the storage's clock. Whoever takes over one that was left behind first creates a second object, named by what it
found: of many, one succeeds in that, too.
"""

import hashlib
import os
import threading
import time
from collections.abc import Callable
from glob import escape

from schemas.errors import StillroomError, StorageError
from schemas.storage import lock
from schemas.storage.lock import LockRecord, is_left_behind, make_record, parse_lock, say_holder
from schemas.storage.objects import match_objects, read_beginning
from schemas.storage.written_objects import create_object, last_change, put_object, remove_objects

SETTLE_SECONDS = 0.5  # after which the last beat of a holder that was asleep has arrived


class Lease:
    """A lease that is held until `release`. Use it from the process that acquired it."""

    def __init__(self, url: str, record: LockRecord):
        self.url, self.record = url, record
        self._end = threading.Event()
        self._beat = threading.Thread(target=self._renew, name=f"lease {url}", daemon=True)
        self._beat.start()

    def is_held(self) -> bool:
        """Whether the object still says so: a host that slept for long may have lost it. Raises StorageError."""
        return _look(self.url) == _content(self.record)

    def release(self) -> None:
        """Remove the object, if it is still this lease's. Does nothing in a process that was forked off."""
        if os.getpid() != self.record.pid or self._end.is_set():
            return
        self._end.set()
        self._beat.join()
        if self.is_held():
            beside = match_objects(f"{escape(self.url)}.*")  # of this taking over, and of others that were cut off
            remove_objects([self.url, *beside])

    def _renew(self) -> None:
        while not self._end.wait(lock.BEAT_SECONDS):
            try:
                if not self.is_held():
                    return
                put_object(self.url, _content(self.record))
            except StorageError:  # the storage is away for a while: whoever asks is told how long ago it was seen
                continue


def acquire_lease(
    url: str, busy: Callable[[str], StillroomError], say: Callable[[str], None] = lambda message: None
) -> Lease:
    """Take the lease at `url`. `busy` and `say` are as `lock.acquire` takes them. Raises what `busy` makes,
    StorageError."""
    record = make_record()
    for _ in range(lock.TRIES):
        if create_object(url, _content(record)):
            return Lease(url, record)
        seen = _look(url)
        age = None if seen is None else _age(url)
        if seen is None or age is None:
            continue  # it was given back in this moment
        found = parse_lock(seen)
        holder = say_holder(found, age)
        if not is_left_behind(found, age):
            raise busy(holder)
        if (lease := _take_over(url, seen, record)) is not None:
            say(f"{url} was left behind by {holder}; it is taken over")
            return lease
    raise busy("another process, which took it in this moment")


def _take_over(url: str, seen: bytes, record: LockRecord) -> Lease | None:
    beside = f"{url}.taken-{hashlib.sha256(seen).hexdigest()[:16]}"
    if not create_object(beside, _content(record)):
        if (_age(beside) or 0.0) > lock.STALE_SECONDS:  # who wanted it was killed before it had it
            remove_objects([beside])
        return None
    if _look(url) == seen:
        put_object(url, _content(record))
        time.sleep(SETTLE_SECONDS)
        if _look(url) == _content(record):
            return Lease(url, record)
    remove_objects([beside])
    return None


def _look(url: str) -> bytes | None:
    try:
        return read_beginning(url, lock.MOST_BYTES)
    except FileNotFoundError:
        return None


def _content(record: LockRecord) -> bytes:
    return f"{record.model_dump_json()}\n".encode()


def _age(url: str) -> float | None:
    """Seconds since it was written, by its storage's clock; None if it is gone."""
    probe = f"{url}.{os.urandom(4).hex()}"
    put_object(probe, b"")
    try:
        return abs((last_change(probe) - last_change(url)).total_seconds())
    except FileNotFoundError:
        return None
    finally:
        remove_objects([probe])
