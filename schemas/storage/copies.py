"""A bounded copy on this machine of what lies elsewhere: of whole things, each a file or a folder, evicted by use.

A thing is there whole or not at all, in one version. Every thing has a record below HOME/.things, which is as old as
its last use, and a number that stands for it in HOME/.lock. A process that uses a thing shares its number, and nothing
that anybody uses is evicted or replaced. What a killed process leaves is removed by the next that needs room.
"""

import hashlib
import logging
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from schemas.errors import ConfigError, StorageError
from schemas.shown import quoted
from schemas.storage.atomic import disk_full, flush_folder
from schemas.storage.numbered_locks import NumberedLocks
from schemas.storage.record import read_record
from schemas.storage.remote import copies_home
from schemas.strict import Strict

LIMIT = "STILLROOM_CACHE_GIB"
DEFAULT_GIB = 100.0
BUSY_SECONDS = 5.0  # how long another process may use an earlier version before that is an error
LOOK_EVERY = 32  # fetched things after which is looked what others have fetched
_DIGITS = 15  # of a thing's number, in hex: what a lock can stand for

logger = logging.getLogger(__name__)


class ThingRecord(Strict):
    """The whole of a file below HOME/.things."""

    format: Literal["stillroom-copy"] = "stillroom-copy"
    version: Literal[1] = 1
    path: str
    """Below HOME."""
    bytes: int
    state: str
    """Which version of it is there; empty while it is made, and when that was interrupted."""


@dataclass(frozen=True)
class Made:
    """How a thing is made."""

    bytes: int
    fetch: Callable[[Path], None]
    """Makes the file or folder at another path of the same name. May raise what it likes."""


@dataclass(frozen=True)
class Thing:
    """What is to lie here."""

    path: Path
    """Where it belongs."""
    state: str
    """Of the version that is wanted; not empty."""
    make: Callable[[], Made]
    """Asked only if it is not here."""
    stays: bool = False
    """Used until this process ends, and not only until room is needed."""


class Copies:
    """The copies below one folder, as one process uses them. Threads may share it."""

    def __init__(self, home: Path, limit: int, in_hand: int = 0):
        """`limit`: bytes of all copies, beyond which nothing is kept that nobody uses. `in_hand`: how many things this
        process uses at once, however little room there is; left out, as many as its threads may. Raises OSError."""
        self.home, self.limit, self._in_hand = home, limit, in_hand or 16 + 2 * (os.cpu_count() or 1)
        self._things, self._partial = home / ".things", home / ".partial"
        for folder in (self._things, self._partial):
            folder.mkdir(parents=True, exist_ok=True)
        self._locks, self._guard = NumberedLocks(home / ".lock"), threading.RLock()
        self._used: dict[int, Thing] = {}  # in the order of their last use; each is shared once
        self._size, self._since_look, self._told = 0, LOOK_EVERY, False
        self.let_go = 0
        """How often things that were in use have been let go, so that they may be evicted: whoever keeps files of them
        open closes these, because they take space until then."""

    def use(self, thing: Thing) -> None:
        """Let `thing` be there, and nobody evict it for the time being. Returns at once if this process uses it.

        Raises StorageError: another process uses an earlier version; ResourceError: the disk is full; what `make` does.
        """
        number = self._number(thing.path)
        while True:
            with self._guard:
                if (used := self._used.get(number)) is not None and used.state == thing.state:
                    self._used[number] = self._used.pop(number)
                    return
                if used is not None:  # of this process: it has opened the source again
                    self._release(number)
            self._locks.share(number)
            if self._is_here(number, thing):
                os.utime(self._record(number))
                with self._guard:
                    if number not in self._used:
                        self._used[number] = thing
                        return
            self._locks.release(number)
            if number not in self._used:
                self._replace(number, thing)

    def _replace(self, number: int, thing: Thing) -> None:
        with self._locks.alone(number, BUSY_SECONDS) as alone:
            if not alone and not self._is_here(number, thing):
                raise StorageError(
                    f"{thing.path} has changed where it was copied from, and another process still uses the copy of "
                    "before; wait until that has ended, or give this one a STILLROOM_CACHE of its own"
                )
            if alone and not self._is_here(number, thing):
                with disk_full(thing.path.name, self.home):
                    self._make(number, thing)

    def _make(self, number: int, thing: Thing) -> None:
        made = thing.make()
        self._make_room(made.bytes)
        self._remove(number)
        _remove_tree(thing.path)  # what no record knows: it may be half of something
        self._write(number, thing, made.bytes, "")  # first: no copy must lie here that no record knows
        partial = self._partial / f"{number:x}"
        _remove_tree(partial)
        partial.mkdir()
        try:
            made.fetch(partial / thing.path.name)
            flush_folder(partial)
            thing.path.parent.mkdir(parents=True, exist_ok=True)
            os.rename(partial / thing.path.name, thing.path)
            self._write(number, thing, made.bytes, thing.state)
        except BaseException:
            with suppress(OSError):
                self._remove(number)
            raise
        finally:
            shutil.rmtree(partial, ignore_errors=True)
        with self._guard:
            self._size += made.bytes

    def forget(self, path: Path) -> None:
        """Remove the copy at `path`, if there is one and nobody uses it: there is no such thing any more."""
        number = self._number(path)
        with self._guard:
            if number in self._used:
                self._release(number)
        with self._locks.alone(number) as alone:
            if alone:
                self._remove(number)

    def hold(self, path: Path) -> None:
        """Count a file below the home that was made there, and is not evicted while this process lives."""
        number, thing = self._number(path), Thing(path, "made here", _made_nowhere_else, stays=True)
        with self._locks.alone(number) as alone:
            if alone and not self._is_here(number, thing):
                size = path.stat().st_size
                self._write(number, thing, size, thing.state)
                with self._guard:
                    self._size += size
        self._locks.share(number)
        with self._guard:
            if number in self._used:
                self._locks.release(number)
            self._used[number] = thing

    def _make_room(self, needed: int) -> None:
        with self._guard:
            self._since_look += 1
            if self._since_look < LOOK_EVERY and self._size + needed <= self.limit:
                return
            self._since_look = 0
            self._evict(needed)
            while self._size + needed > self.limit and self._let_go():
                self._evict(needed)
            if self._size + needed > self.limit and not self._told:
                self._told = True
                logger.warning(
                    "%s holds more than its limit of %.0f MiB, because all of it is in use; %s raises it",
                    self.home, self.limit / 2**20, LIMIT,
                )  # fmt: skip

    def _evict(self, needed: int) -> None:
        """Remove what was used longest ago, as far as it must be; and what killed processes left."""
        found = sorted(self._list(), key=lambda item: item[1])
        self._size = sum(record.bytes for _, _, record in found)
        for number, _, record in found:
            if record.state and self._size + needed <= self.limit:
                continue
            with self._locks.alone(number) as alone:
                if alone:
                    self._remove(number)
                    _remove_tree(self._partial / f"{number:x}")
                    self._size -= record.bytes

    def _let_go(self) -> bool:
        """Use no more what this process used longest ago, half of all that does not stay. Returns whether any was."""
        passing = [number for number, thing in self._used.items() if not thing.stays][: -self._in_hand]
        for number in passing[: -(-len(passing) // 2)]:
            self._release(number)
        self.let_go += bool(passing)
        return bool(passing)

    def _release(self, number: int) -> None:
        del self._used[number]
        self._locks.release(number)

    def _list(self) -> Iterator[tuple[int, float, ThingRecord]]:
        """Number, last use and record of everything that is here."""
        for entry in os.scandir(self._things):
            with suppress(OSError, ValueError, StorageError):  # gone by now, or not ours
                number, used = int(entry.name, 16), entry.stat().st_mtime
                yield number, used, read_record(Path(entry.path), ThingRecord, StorageError, "no copy")

    def _remove(self, number: int) -> None:
        """Remove a thing, its record last. The caller has it alone."""
        record = self._record(number)
        with suppress(StorageError):
            path = self.home / read_record(record, ThingRecord, StorageError, "no copy").path
            _remove_tree(path)
        record.unlink(missing_ok=True)

    def _write(self, number: int, thing: Thing, size: int, state: str) -> None:
        path = thing.path.relative_to(self.home).as_posix()
        text = ThingRecord(path=path, bytes=size, state=state).model_dump_json()
        beside = self._partial / f"{number:x}.json"
        beside.write_text(text, encoding="utf-8")
        os.replace(beside, self._record(number))

    def _is_here(self, number: int, thing: Thing) -> bool:
        try:
            found = read_record(self._record(number), ThingRecord, StorageError, "no copy")
        except StorageError:
            return False
        return found.state == thing.state and thing.path.exists()

    def _record(self, number: int) -> Path:
        return self._things / f"{number:x}"

    def _number(self, path: Path) -> int:
        name = os.fsencode(path.relative_to(self.home))
        return int(hashlib.sha256(name).hexdigest()[:_DIGITS], 16)


def _remove_tree(path: Path) -> None:
    """Remove a file or a folder, if it is there. Whoever has mapped a file of it keeps what it maps."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _made_nowhere_else() -> Made:
    raise StorageError("what was made here was removed, and lies nowhere else")


_opened: dict[tuple[int, Path, int], Copies] = {}
_opening = threading.Lock()


def open_copies() -> Copies:
    """Those of this user, one object per process. Raises ConfigError: a limit that is none; StorageError: no folder can
    be made there, or its file system has no locks."""
    home, limit = copies_home(), _limit()
    with _opening:
        key = os.getpid(), home, limit
        try:
            return _opened.get(key) or _opened.setdefault(key, Copies(home, limit))
        except OSError as error:
            raise StorageError(
                f"cannot keep copies in {home}: {error.strerror or error}; name another folder in STILLROOM_CACHE"
            ) from error


def hold_if_copied(path: Path) -> None:
    """`Copies.hold`, of a file that stands among the copies; any other is left alone. Raises as `open_copies` does."""
    if path.is_relative_to(copies_home()):
        open_copies().hold(path)


def _limit() -> int:
    said = os.environ.get(LIMIT, str(DEFAULT_GIB))
    try:
        limit = float(said)
    except ValueError:
        limit = -1.0
    if not 0 <= limit < 1e9:
        raise ConfigError(f"{LIMIT} is {quoted(said)}; give the GiB that copies of remote files may take, such as 100")
    return int(limit * 2**30)
