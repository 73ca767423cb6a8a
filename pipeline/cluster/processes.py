"""Watch over Ray: its processes that this one started, or the address of a cluster.

Ray itself waits 30 seconds for a raylet that died while it started, and 60 for a GCS, and then ends this whole process
without a word that a user would understand.
"""

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn, Protocol

import psutil

from schemas.errors import ResourceError

CORE = ("gcs_server", "raylet")  # without one of these nothing goes on
WATCH_SECONDS = 0.1  # between two looks at a Ray that starts
GRACE_SECONDS = 5.0  # for the main thread to heed a signal
LOOK_SECONDS = 2.0  # between two looks at a cluster's address
ABSENT_SECONDS = 20.0  # for this long a GCS that is restarted may be away


class Watched(Protocol):
    """A Ray that may die."""

    def dead(self) -> str | None:
        """Returns what of it is dead, or None."""

    def kill(self) -> None:
        """End what this process started of it, and is still there."""


class LocalRay:
    """GCS and raylet of a local Ray, found among this process's children as they come up."""

    def __init__(self) -> None:
        self._found: dict[str, psutil.Process] = {}
        self._others = {child.pid for child in psutil.Process().children()}

    def dead(self) -> str | None:
        """One that was seen alive, and is not any more."""
        if len(self._found) < len(CORE):
            self._look()
        return next((f"its {name}" for name, process in self._found.items() if not _lives(process)), None)

    def kill(self) -> None:
        """End both; what else Ray started ends with them."""
        self._look()
        for process in self._found.values():
            with _may_be_gone():
                process.kill()

    def _look(self) -> None:
        for child in psutil.Process().children():
            with _may_be_gone():
                if child.pid not in self._others and child.name() in CORE:
                    self._found.setdefault(child.name(), child)


class Cluster:
    """A cluster that others started, known by the address of its GCS."""

    def __init__(self, address: str) -> None:
        """`address` as host:port."""
        host, _, port = address.rpartition(":")
        self._address, self._seen = (host.strip("[]"), int(port)), time.monotonic()
        self._next_look = self._seen + LOOK_SECONDS

    def dead(self) -> str | None:
        """Nobody has answered at the address for ABSENT_SECONDS. Takes a second at most, and seldom looks."""
        now = time.monotonic()
        if now < self._next_look:
            return None
        self._next_look = now + LOOK_SECONDS
        try:
            socket.create_connection(self._address, timeout=1).close()
            self._seen = now
        except OSError:
            if now - self._seen > ABSENT_SECONDS:
                return "its GCS"
        return None

    def kill(self) -> None:
        """Nothing of it is ours."""


class _Interrupted(BaseException):
    """Passes through every `except Exception` of Ray."""


@contextmanager
def interrupted_by_death(ray: Watched, message: str) -> Iterator[None]:
    """Ends what the main thread waits for if `ray` dies: raises ResourceError, `message` filled with what is dead.

    Where the thread waits inside Ray, deaf to signals, the message is printed and the process exits with 2: Ray itself
    would abort it a minute later. Other threads than the main one are not interrupted.
    """
    main = threading.main_thread()
    if threading.current_thread() is not main:
        yield
        return
    over = threading.Event()

    def watch() -> None:
        while not over.wait(WATCH_SECONDS):
            if part := ray.dead():
                signal.pthread_kill(main.ident or 0, signal.SIGUSR1)
                if not over.wait(GRACE_SECONDS):
                    sys.stderr.write(f"stillroom: {message.format(part)}\n")
                    os._exit(2)
                return

    def interrupt(number: int, frame: FrameType | None) -> NoReturn:
        raise _Interrupted

    previous = signal.signal(signal.SIGUSR1, interrupt)
    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    except _Interrupted:
        raise ResourceError(message.format(ray.dead() or "it")) from None
    finally:
        over.set()
        signal.signal(signal.SIGUSR1, previous)


@contextmanager
def _may_be_gone() -> Iterator[None]:
    try:
        yield
    except psutil.NoSuchProcess:
        return


def _lives(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
