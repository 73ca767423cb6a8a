"""One writer per folder, also where flock does not hold: NFS, object stores mounted as folders, several machines.

The lock is a small file that is created exclusively and removed at the end. It names host, process and token, and its
holder touches it every few seconds. A process that finds it takes it over, and says so, if the holder is gone from this
host or has not touched it for a minute. Ages are by the file system's own clock, so hosts need not agree on a time.
"""

import errno
import os
import platform
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from schemas.errors import StillroomError
from schemas.storage.record import parse_record
from schemas.storage.regular import open_regular
from schemas.strict import Strict

BEAT_SECONDS = 5.0
STALE_SECONDS = 60.0
MOST_BYTES = 4096
TRIES = 5  # each lost to another process that came first


class LockRecord(Strict):
    """The whole of a lock file."""

    format: Literal["stillroom-lock"] = "stillroom-lock"
    version: Literal[1] = 1
    token: str
    """Of this holding alone; its temporary files carry it."""
    host: str
    pid: int
    started: str
    """When the process began, as its system counts: a process id may be given again."""
    at: float
    """Seconds since 1970, as information."""


class Lock:
    """A lock that is held until `release`. Use it from the process that acquired it."""

    def __init__(self, path: Path, record: LockRecord, seized: LockRecord | None):
        self.path, self.record = path, record
        self.owners = {record.token} | ({seized.token} if seized else set())  # whose temporary files are this one's
        self._end = threading.Event()
        self._beat = threading.Thread(target=self._touch, name=f"lock {path}", daemon=True)
        self._beat.start()

    @property
    def token(self) -> str:
        """The name of this holding."""
        return self.record.token

    def is_held(self) -> bool:
        """Returns whether the file still says so: a host that slept for long may have lost it."""
        return read_token(self.path) == self.token

    def release(self) -> None:
        """Remove the file, if it is still this lock's. Does nothing in a process that was forked off."""
        if os.getpid() != self.record.pid or self._end.is_set():
            return
        self._end.set()
        self._beat.join()
        if self.is_held():
            self.path.unlink(missing_ok=True)

    def _touch(self) -> None:
        while not self._end.wait(BEAT_SECONDS):
            try:
                os.utime(self.path)
            except OSError:  # it was removed, or the disk is away for a while: `is_held` tells
                continue


def acquire(
    path: Path, busy: Callable[[str], StillroomError], say: Callable[[str], None] = lambda message: None
) -> Lock:
    """Take the lock at `path`, whose folder exists.

    `busy` makes the error to raise while another process holds it, of a text such as `process 7 on host a`; `say` is
    told of a lock that was left behind and taken over. Raises OSError if the file cannot be written.
    """
    record = make_record()
    seized: LockRecord | None = None
    for _ in range(TRIES):
        if _create(path, record):
            return Lock(path, record, seized)
        seen = _look(path)
        if seen is None:
            continue  # it was given back in this moment
        found, age = parse_lock(seen.content), _age(path, seen)
        holder = say_holder(found, age)
        if not is_left_behind(found, age):
            raise busy(holder)
        if _remove(path, seen):
            say(f"{path} was left behind by {holder}; it is taken over")
            seized = found
    raise busy("another process, which took it in this moment")


def make_record() -> LockRecord:
    """That of a new holding, by this process."""
    return LockRecord(
        token=uuid.uuid4().hex[:8], host=_host(), pid=os.getpid(), started=_started(os.getpid()), at=time.time()
    )


def say_holder(found: LockRecord | None, age: float) -> str:
    """Who holds a lock that was touched `age` seconds ago, as `acquire` tells it."""
    holder = "an unknown process" if found is None else f"process {found.pid} on {found.host.split('/')[0]}"
    return f"{holder}, seen {age:.0f} s ago"


def read_token(path: Path) -> str:
    """The token of whoever holds the lock at `path`; empty if nobody does."""
    seen = _look(path)
    found = None if seen is None else parse_lock(seen.content)
    return "" if found is None else found.token


@dataclass(frozen=True)
class _Seen:
    """A lock file as it was when it was looked at."""

    content: bytes
    touched: float


def _create(path: Path, record: LockRecord) -> bool:
    """Returns whether the file was made by this call and says so: some mounts let two create one file."""
    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(record.model_dump_json() + "\n")
    except FileExistsError:
        return False
    return read_token(path) == record.token


def is_left_behind(found: LockRecord | None, age: float) -> bool:
    """Returns whether its holder is gone: of this host's processes the system knows, of others the last touch tells."""
    # Hosts may share a name; the boot tells them apart, and a host that has booted since is judged by age, too.
    own_boot = _started(os.getpid()).split(" ")[0]
    if found is not None and found.host == _host() and own_boot and found.started.split(" ")[0] == own_boot:
        return _started(found.pid) != found.started
    return age > STALE_SECONDS


def _remove(path: Path, seen: _Seen) -> bool:
    """Remove the lock that was judged, and no other. It is renamed first, and only one process can succeed in that."""
    beside = _beside(path)
    try:
        if _look(path) != seen:
            return False
        os.rename(path, beside)
    except FileNotFoundError:
        return False
    moved = _look(beside)
    if moved is not None and moved.content != seen.content:  # another was faster, and this is its fresh lock
        os.rename(beside, path)
        return False
    beside.unlink(missing_ok=True)
    return True


def _look(path: Path) -> _Seen | None:
    """The file at `path`, if there is one. Raises OSError for what is not a file, as no lock is."""
    try:
        with open_regular(path) as file:
            return _Seen(file.read(MOST_BYTES), os.fstat(file.fileno()).st_mtime)
    except FileNotFoundError as error:
        if not path.is_symlink():
            return None
        raise OSError(errno.EINVAL, f"the lock {path} is a link to nothing: remove it", str(path)) from error
    except OSError as error:
        said = f"the lock {path} cannot be read ({error.strerror}): remove it"
        raise OSError(error.errno, said, str(path)) from error


def parse_lock(content: bytes) -> LockRecord | None:
    """What a lock says of its holder, if it can be read."""
    try:
        return parse_record(content, LockRecord, Path(), StillroomError)
    except StillroomError:  # it is being written, or of another version
        return None


def _age(path: Path, seen: _Seen) -> float:
    """Seconds since the lock was touched, by the clock of the disk that it lies on."""
    probe = _beside(path)
    try:
        probe.touch(exist_ok=False)
        # A touch in the future is of a clock that was wrong, or of a copy: as old as it is far away.
        return abs(probe.stat().st_mtime - seen.touched)
    finally:
        probe.unlink(missing_ok=True)


def _beside(path: Path) -> Path:
    return path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}")


def _host() -> str:
    """This machine and, in a container, the container's processes: one number may stand for two processes."""
    try:
        return f"{platform.node()}/{os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return platform.node()


def _started(pid: int) -> str:
    """When a process of this host began; empty if there is none, or the system does not say."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
    except OSError:
        return ""
    fields = stat.rpartition(")")[2].split()  # the name before it may hold anything
    return "" if fields[0] in "ZX" else f"{boot} {fields[19]}"
