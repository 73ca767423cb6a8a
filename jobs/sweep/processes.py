"""A sweep's runs in processes of this machine, some at a time. Each takes one group of runs after the other: to import
torch and transformers takes as long as many a short run.

One that died, or one of whose runs failed at its training or for want of memory, takes no other: what it left in memory
is nobody's business. A run that was refused in words before its first step has left nothing.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Generator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from jobs.sweep.work import Group, Outcome, Problem, Problems, as_sent
from schemas.storage.regular import open_to_append

POLL_SECONDS = 0.1
GRACE_SECONDS = 5.0  # for a run to heed an interrupt
PROJECT = Path(__file__).resolve().parents[2]


class Worker:
    """A process of `jobs.sweep.worker`, which trains what it is sent. It ends with the sweep that started it, however
    that ends: it holds the other end of its standard input."""

    def __init__(self, group: Group, count: int, logs: Path, answers: Path):
        """One of `count`, for `group` at first. Raises OSError if it cannot be started."""
        self._group, self._logs, self._answers = group, logs, answers
        with open_to_append(self._log) as log:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "jobs.sweep.worker"],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env=_environment(count),
                text=True,
                start_new_session=True,  # a terminal interrupts the sweep alone, which ends its processes
            )

    def send(self, group: Group, logit_bytes: int) -> None:
        """Let it train `group`, and write into the log of its first run."""
        self._group = group
        order = {
            "configs": [as_sent(run) for run in group],
            "logit_bytes": logit_bytes,
            "log": str(self._log),
            "answer": str(self._answer),
        }
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):  # it is dead already, and `outcomes` tells
            self.process.stdin.write(json.dumps(order) + "\n")
            self.process.stdin.flush()

    def outcomes(self) -> list[Outcome] | None:
        """What came of its runs; None while it trains. One that died without an answer leaves them unfinished."""
        code = self.process.poll()  # before the answer is looked for, which may come at the last moment
        if self._answer.exists():
            told = json.loads(self._answer.read_text(encoding="utf-8"))
            problems: Problems = [each and Problem(**each) for each in told]
        elif code is not None:
            died = f"its process ended {_way(code)}; {self._log} tells more, and the same command goes on"
            problems = [Problem(died)] * len(self._group)
        else:
            return None
        return list(map(Outcome, self._group, problems))

    def dismiss(self) -> None:
        """Let it end, now that it trains nothing."""
        assert self.process.stdin is not None
        with suppress(BrokenPipeError):
            self.process.stdin.close()
        _wait_for([self.process])

    @property
    def _log(self) -> Path:
        return self._logs / f"{self._group[0].name}.log"

    @property
    def _answer(self) -> Path:
        return self._answers / self._group[0].name


def train_in_processes(groups: Sequence[Group], logit_bytes: int, count: int, logs: Path) -> Generator[Outcome | None]:
    """`count` groups at a time, each in a process that no other is in; None now and then while nothing ends.

    Closed early, it interrupts what still runs. Raises OSError if a process cannot be started.
    """
    waiting, idle, busy = deque(groups), list[Worker](), list[Worker]()
    with tempfile.TemporaryDirectory(prefix="stillroom-", ignore_cleanup_errors=True) as answers:
        try:
            while waiting or busy:
                while waiting and len(busy) < count:
                    group = waiting.popleft()
                    busy.append(idle.pop() if idle else Worker(group, count, logs, Path(answers)))
                    busy[-1].send(group, logit_bytes)
                ended = [(worker, found) for worker in busy if (found := worker.outcomes()) is not None]
                for worker, outcomes in ended:
                    busy.remove(worker)
                    if waiting and all(each.problem is None or each.problem.harmless for each in outcomes):
                        idle.append(worker)
                    else:
                        worker.dismiss()
                    yield from outcomes
                if not ended:
                    yield None
                    time.sleep(POLL_SECONDS)
        finally:
            _interrupt([worker.process for worker in (*busy, *idle)])


def _way(code: int) -> str:
    return f"with code {code}" if code >= 0 else f"by {signal.Signals(-code).name}, most often because memory ran out"


def _environment(count: int) -> Mapping[str, str]:
    """Processes share the cores, unless the user says how; and they find stillroom where this one did."""
    threads = max(1, len(os.sched_getaffinity(0)) // count)
    path = os.pathsep.join(filter(None, [str(PROJECT), os.environ.get("PYTHONPATH")]))
    return {"OMP_NUM_THREADS": str(threads)} | os.environ | {"PYTHONPATH": path}


def _interrupt(running: Sequence["subprocess.Popen[str]"]) -> None:
    for process in running:
        process.send_signal(signal.SIGINT)
    _wait_for(running)


def _wait_for(ending: Sequence["subprocess.Popen[str]"]) -> None:
    deadline = time.monotonic() + GRACE_SECONDS
    for process in ending:
        try:
            process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
