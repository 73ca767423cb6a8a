"""`python -m jobs.sweep.worker`: trains what standard input asks for, a line after the other, and ends with it."""

import json
import os
import sys
import threading
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from jobs.guard import heed_interrupts, make_output_safe
from jobs.sweep.work import train_logged
from schemas.storage.regular import open_to_append

Order = dict[str, Any]  # `configs`, `logit_bytes`, and the files for the `log` and the `answer`


class Orders:
    """Those of standard input. Where it ends amid one, the sweep is gone, and so is this process."""

    def __init__(self) -> None:
        self._lines = SimpleQueue[str]()
        self._come = self._done = 0
        threading.Thread(target=self._listen, name="the sweep's orders", daemon=True).start()

    def __iter__(self) -> Iterator[Order]:
        """Each when the one before is done."""
        while line := self._lines.get():
            yield json.loads(line)
            self._done += 1

    def _listen(self) -> None:
        for line in sys.stdin:
            self._come += 1
            self._lines.put(line)
        if self._come > self._done:
            os._exit(1)
        self._lines.put("")


def write_into(log: Path) -> None:
    """Let all that this process says, its libraries included, be added to `log`."""
    with open_to_append(log) as file:
        os.dup2(file.fileno(), sys.stdout.fileno())
        os.dup2(file.fileno(), sys.stderr.fileno())


def main() -> None:
    """Train, and put the problems of each order where it says."""
    make_output_safe()
    heed_interrupts()
    try:
        for order in Orders():
            write_into(Path(order["log"]))
            problems = train_logged(order["configs"], order["logit_bytes"], Path(order["log"]))
            beside = Path(order["answer"] + ".tmp")
            beside.write_text(json.dumps([problem and asdict(problem) for problem in problems]), encoding="utf-8")
            beside.rename(order["answer"])
    except KeyboardInterrupt:
        raise SystemExit(130) from None


if __name__ == "__main__":
    main()
