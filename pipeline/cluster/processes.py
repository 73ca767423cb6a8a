"""Whether Ray is still there: its processes that this one started, or the address of a cluster.

Ray itself waits 30 seconds for a raylet that died while it started, and 60 for a GCS, and then ends this whole process
without a word that a user would understand.
"""

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

import psutil

CORE = ("gcs_server", "raylet")  # without one of these nothing goes on
LOOK_SECONDS = 2.0  # between two looks at a cluster's address
ABSENT_SECONDS = 20.0  # for this long a GCS that is restarted may be away


class Watched(Protocol):
    """A Ray that may die."""

    def dead(self) -> str | None:
        """What of it is dead, or None."""

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
