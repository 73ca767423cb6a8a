"""A sweep's runs in processes of this machine, some at a time: `python -m jobs.sweep.processes` is one of them.

A process ends with the sweep that started it, however that ends: it holds the other end of its standard input.
"""

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Generator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from jobs.guard import heed_interrupts, make_output_safe
from jobs.sweep.work import Group, Outcome, Problems, as_sent, train_logged
from schemas.storage.regular import open_to_append

POLL_SECONDS = 0.1
GRACE_SECONDS = 5.0  # for a run to heed an interrupt
PROJECT = Path(__file__).resolve().parents[2]


def train_in_processes(groups: Sequence[Group], logit_bytes: int, count: int, logs: Path) -> Generator[Outcome | None]:
    """`count` groups at a time, each in a process of its own; None now and then while nothing ends.

    Closed early, it interrupts what still runs. Raises OSError if a process cannot be started.
    """
    waiting, running = deque(groups), dict[subprocess.Popen[str], Group]()
    with tempfile.TemporaryDirectory(prefix="stillroom-", ignore_cleanup_errors=True) as answers:
        try:
            while waiting or running:
                while waiting and len(running) < count:
                    group = waiting.popleft()
                    running[_start(group, logit_bytes, count, logs, Path(answers))] = group
                ended = [process for process in running if process.poll() is not None]
                for process in ended:
                    group = running.pop(process)
                    yield from map(Outcome, group, _problems(process, group, Path(answers), logs))
                if not ended:
                    yield None
                    time.sleep(POLL_SECONDS)
        finally:
            _end(running)


def _start(group: Group, logit_bytes: int, count: int, logs: Path, answers: Path) -> subprocess.Popen[str]:
    name = group[0].name
    order = {
        "configs": [as_sent(run) for run in group],
        "logit_bytes": logit_bytes,
        "log": str(_log(logs, group)),
        "answer": str(answers / name),
    }
    with open_to_append(_log(logs, group)) as log:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "jobs.sweep.processes"],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=log,
            env=_environment(count),
            text=True,
            start_new_session=True,  # a terminal interrupts the sweep alone, which ends its processes
        )
    assert process.stdin is not None
    with suppress(BrokenPipeError):  # it is dead already, and `poll` tells
        process.stdin.write(json.dumps(order) + "\n")
        process.stdin.flush()
    return process


def _log(logs: Path, group: Group) -> Path:
    return logs / f"{group[0].name}.log"


def _environment(count: int) -> Mapping[str, str]:
    """Processes share the cores, unless the user says how; and they find stillroom where this one did."""
    threads = max(1, len(os.sched_getaffinity(0)) // count)
    path = os.pathsep.join(filter(None, [str(PROJECT), os.environ.get("PYTHONPATH")]))
    return {"OMP_NUM_THREADS": str(threads)} | os.environ | {"PYTHONPATH": path}


def _problems(process: "subprocess.Popen[str]", group: Group, answers: Path, logs: Path) -> Problems:
    """What the process answered; one that died without an answer leaves its runs unfinished."""
    assert process.stdin is not None
    with suppress(BrokenPipeError):
        process.stdin.close()
    answer = answers / group[0].name
    if answer.exists():
        found: Problems = json.loads(answer.read_text(encoding="utf-8"))
        return found
    code = process.returncode
    died = f"by {signal.Signals(-code).name}, most often because memory ran out" if code < 0 else f"with code {code}"
    return [f"its process ended {died}; {_log(logs, group)} tells more, and the same command goes on"] * len(group)


def _end(running: Mapping["subprocess.Popen[str]", Any]) -> None:
    for process in running:
        process.send_signal(signal.SIGINT)
    deadline = time.monotonic() + GRACE_SECONDS
    for process in running:
        try:
            process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _end_with_the_sweep() -> None:
    while os.read(sys.stdin.fileno(), 1):
        pass
    os._exit(1)


def main() -> None:
    """Train what standard input asks for, and put the problems where it says."""
    make_output_safe()
    heed_interrupts()
    order = json.loads(sys.stdin.readline())
    threading.Thread(target=_end_with_the_sweep, name="the sweep's end", daemon=True).start()
    try:
        problems = train_logged(order["configs"], order["logit_bytes"], Path(order["log"]))
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    beside = Path(order["answer"] + ".tmp")
    beside.write_text(json.dumps(problems), encoding="utf-8")
    beside.rename(order["answer"])


if __name__ == "__main__":
    main()
