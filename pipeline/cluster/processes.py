"""Watch over Ray: its processes that this one started, or the address of a cluster.

Ray itself waits 30 seconds for a raylet that died while it started, and 60 for a GCS, and then ends this whole process
without a word that a user would understand.
"""

import os
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from types import FrameType
from typing import NoReturn, Protocol

import psutil

from schemas.errors import ResourceError

CORE = ("gcs_server", "raylet")  # without one of these nothing goes on
# Of a raylet, which ends with either.
AGENTS = ("ray::DashboardAgent", "ray::RuntimeEnvAgent")
WATCH_SECONDS = 0.1  # between two looks at a Ray that starts
GRACE_SECONDS = 5.0  # for the main thread to heed a signal
LOOK_SECONDS = 2.0  # between two looks at a cluster's address, or for processes that came up
ABSENT_SECONDS = 20.0  # for this long a GCS that is restarted may be away


class Watched(Protocol):
    """A Ray that may die."""

    def dead(self) -> str | None:
        """Returns what of it is dead, or None."""

    def kill(self) -> None:
        """End what this process started of it, and is still there."""


class LocalRay:
    """GCS, raylet and its agents of a local Ray, found below this process as they come up.

    A raylet whose agent dies ends in good order, and then this process ends without a word, too. So the agent's death
    is what must be seen.
    """

    def __init__(self) -> None:
        self._found: dict[str, psutil.Process] = {}
        self._others = {child.pid for child in psutil.Process().children()}

    def dead(self) -> str | None:
        """One that was seen alive, and is not any more."""
        if len(self._found) < len(CORE) + len(AGENTS):
            self._look()
        found = list(self._found.items())  # one thread may look while another finds
        ended = next((name for name, process in found if not _lives(process)), None)
        return None if ended is None else f"its {ended.removeprefix('ray::')}"

    def wait(self, seconds: float) -> None:
        """Return as soon as one of them ends, or after `seconds`."""
        ends = select.poll() if self._found and hasattr(os, "pidfd_open") else None
        if ends is None:  # not Linux, or nothing there yet
            time.sleep(min(seconds, WATCH_SECONDS))
            return
        with ExitStack() as opened:
            for process in list(self._found.values()):
                try:
                    number = os.pidfd_open(process.pid)
                except ProcessLookupError:
                    return
                opened.callback(os.close, number)
                ends.register(number, select.POLLIN)
            ends.poll(seconds * 1000)

    def kill(self) -> None:
        """End them and the raylet's workers, which would write what they have begun; the rest ends with them.

        Workers of a raylet that is dead already are nobody's children: they end by themselves, within a moment.
        """
        self._look()
        workers: list[psutil.Process] = []
        if raylet := self._found.get("raylet"):
            with _may_be_gone():
                workers = raylet.children(recursive=True)
        for process in [*self._found.values(), *workers]:
            with _may_be_gone():
                process.kill()

    def _look(self) -> None:
        self._find(CORE, psutil.Process())
        if raylet := self._found.get("raylet"):
            self._find(AGENTS, raylet)

    def _find(self, names: Sequence[str], parent: psutil.Process) -> None:
        with _may_be_gone():
            for child in parent.children():
                with _may_be_gone():
                    if child.pid not in self._others and child.name() in names:
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
def ended_by_death(ray: LocalRay, message: str) -> Iterator[None]:
    """Ends this process with status 2 as soon as `ray` dies, `message` filled with what is dead.

    Nothing milder is in time: within half a second Ray itself would end it without a word, whatever the main thread
    does. Locks and temporary files stay as after a kill, and the next call takes them over.
    """
    over = threading.Event()

    def watch() -> None:
        """Interrupt the main thread once, and end the process if it does not hear."""
        while not over.is_set():
            ray.wait(LOOK_SECONDS)
            if not over.is_set() and (part := ray.dead()):
                sys.stderr.write(f"stillroom: {message.format(part)}\n")
                sys.stderr.flush()
                ray.kill()
                os._exit(2)

    threading.Thread(target=watch, name="death of Ray", daemon=True).start()
    try:
        yield
    finally:
        over.set()


class _Interrupted(BaseException):
    """Passes through every `except Exception` of Ray."""


@contextmanager
def interrupted_by_death(ray: Watched, message: str, clean_up: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Ends what the main thread waits for if `ray` dies: raises ResourceError, `message` filled with what is dead.

    Where the thread waits inside Ray, deaf to signals, the message is printed, `clean_up` does what the thread cannot,
    and the process exits with 2: Ray itself would abort it a minute later. Other threads than the main one are not
    interrupted.
    """
    main = threading.main_thread()
    if threading.current_thread() is not main:
        yield
        return
    over = threading.Event()

    def watch() -> None:
        """Interrupt the main thread once, and end the process if it does not hear."""
        while not over.wait(WATCH_SECONDS):
            if part := ray.dead():
                signal.pthread_kill(main.ident or 0, signal.SIGUSR1)
                if not over.wait(GRACE_SECONDS):
                    sys.stderr.write(f"stillroom: {message.format(part)}\n")
                    with suppress(OSError):
                        clean_up()
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
