"""One try of a command: struck once at a random moment, and what it did and left behind."""

import os
import signal
import subprocess
import sys
import time
import uuid
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[3]
MARK = "STILLROOM_CHAOS"  # of a try, in the environment of every process that it started
LIMIT_SECONDS = 240.0  # for one try on a busy machine
GRACE_SECONDS = 20.0  # for what a killed driver leaves to notice it


@dataclass
class Tally:
    """What has happened so far, by kind of event."""

    events: Counter[str] = field(default_factory=Counter)
    missed: Counter[str] = field(default_factory=Counter)
    """Tries that ended before they were struck."""
    ends: defaultdict[str, Counter[int]] = field(default_factory=lambda: defaultdict(Counter))
    compared: Counter[str] = field(default_factory=Counter)
    """Results that were compared, byte by byte, after an event of that kind."""
    wrong: list[str] = field(default_factory=list)

    def complain(self, kind: str, problem: str) -> None:
        self.wrong.append(f"{kind}: {problem}")
        print(f"!! {kind}: {problem}", flush=True)

    def table(self) -> str:
        lines = [f"{'event':<34}{'struck':>7}{'missed':>8}{'compared':>10}   exit statuses"]
        for kind in sorted(self.events | self.missed):
            ends = ", ".join(f"{code}: {count}" for code, count in sorted(self.ends[kind].items()))
            row = f"{kind:<34}{self.events[kind]:>7}{self.missed[kind]:>8}{self.compared[kind]:>10}   {ends}"
            lines.append(row)
        return "\n".join([*lines, f"{self.events.total()} events, {len(self.wrong)} complaints", *self.wrong])


@dataclass(frozen=True)
class Ended:
    """How a try ended."""

    code: int
    said: str
    left: tuple[str, ...]  # processes that were still there


class Started:
    """A command at work, in a session of its own, as a terminal or a scheduler starts it."""

    def __init__(self, arguments: Sequence[str], folder: Path, environment: dict[str, str] | None = None):
        self._mark, self._log = uuid.uuid4().hex, folder / f"said-{uuid.uuid4().hex[:8]}"
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
        given = inherited | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", MARK: self._mark} | (environment or {})
        command = [sys.executable, "-P", "-m", "jobs.cli", *arguments]
        with self._log.open("w") as log:
            self.process = subprocess.Popen(
                command, cwd=folder, env=given, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True
            )

    @property
    def is_over(self) -> bool:
        return self.process.poll() is not None

    def end(self) -> Ended:
        """Wait for it, and for all that it started; what does not end is killed, and named."""
        hung = False
        try:
            self.process.wait(LIMIT_SECONDS)
        except subprocess.TimeoutExpired:
            hung = True
            self.process.kill()
            self.process.wait()
        limit = time.monotonic() + GRACE_SECONDS
        while (left := self._left()) and time.monotonic() < limit:
            time.sleep(0.2)
        names = tuple(_name_of(process) for process in left)
        for process in left:
            process.kill()
        said = self._log.read_text(errors="replace")
        self._log.unlink()
        return Ended(self.process.returncode, said, (*names, *(["the command: it hung"] if hung else [])))

    def _left(self) -> list[psutil.Process]:
        return [process for process in psutil.process_iter() if self._is_of_this(process)]

    def _is_of_this(self, process: psutil.Process) -> bool:
        try:
            alive = process.status() != psutil.STATUS_ZOMBIE
            return bool(alive and process.environ().get(MARK) == self._mark)
        except psutil.Error:
            return False


def _name_of(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())[:200]
    except psutil.Error:
        return str(process.pid)


def judge(kind: str, ended: Ended, allowed: Sequence[int], tally: Tally, says: Sequence[str] = ()) -> None:
    """Complain of a traceback, a status that it may not have, more or less than one message, and what was left."""
    tally.ends[kind][ended.code] += 1
    said = ended.said[-3000:]
    if "Traceback" in ended.said:
        tally.complain(kind, f"a traceback, status {ended.code}:\n{said}")
    elif ended.code not in allowed:
        tally.complain(kind, f"status {ended.code}:\n{said}")
    elif ended.code in (2, 130) and ended.said.count("stillroom: ") != 1:
        tally.complain(kind, f"not one message, status {ended.code}:\n{said}")
    elif ended.code == 2 and says and not any(words in ended.said for words in says):
        tally.complain(kind, f"another message than {says}:\n{said}")
    for process in ended.left:
        tally.complain(kind, f"left behind: {process}")


def interrupt(started: Started) -> bool:
    """Ctrl-C, which a terminal sends to the whole group."""
    os.killpg(started.process.pid, signal.SIGINT)
    return True


def terminate(started: Started) -> bool:
    """SIGTERM to the command alone."""
    started.process.terminate()
    return True


def until(started: Started, is_time: Callable[[], bool], look_seconds: float = 0.01) -> bool:
    """Wait for a moment; False if the command ended before."""
    while not started.is_over:
        if is_time():
            return True
        time.sleep(look_seconds)
    return False
