"""metrics.jsonl and TensorBoard events: what a run reported, one JSON object per line, without wall-clock times."""

import json
import math
from collections.abc import Sequence
from contextlib import AbstractContextManager, closing
from pathlib import Path
from types import TracebackType
from typing import Any

from schemas.errors import RunError
from schemas.shown import quoted
from schemas.storage.atomic import disk_full, write_text
from schemas.storage.record import without_repetition
from schemas.storage.regular import read_text

FILE = "metrics.jsonl"
METRICS_BYTES = 1 << 30  # at most
LARGEST = 1e100  # of a figure, so that a spread of such is a number as well
WAY_OUT = "put it back as it was, or take that line out and keep a copy: only tensorboard/ reports the same"


class MetricsLog:
    """Appends to RUN/metrics.jsonl and RUN/tensorboard; a resumed run first drops what lies beyond its checkpoint.

    Every method raises ResourceError if the disk is full.
    """

    def __init__(self, run: Path, step: int, steps: int | None = None):
        """`step` of `steps` are done. Raises RunError if the lines up to there are damaged."""
        from torch.utils.tensorboard import SummaryWriter  # 2 seconds to import: only for who trains

        self._run = run
        path = run / FILE
        kept = [line for line in read_metrics(run, steps) if line["step"] <= step] if step and path.exists() else []
        with self._disk_full():
            write_text(path, "".join(json.dumps(line) + "\n" for line in kept))
            self._file = path.open("a", encoding="utf-8")
            self._events = SummaryWriter(str(run / "tensorboard"), purge_step=step + 1)

    def write(self, step: int, values: dict[str, float], only_events: dict[str, float] | None = None) -> None:
        """One line; `only_events` holds what differs from run to run, such as tokens per second."""
        with self._disk_full():
            self._file.write(json.dumps({"step": step} | values) + "\n")
            self._file.flush()
            for name, value in (values | (only_events or {})).items():
                self._events.add_scalar(name, value, step)

    def __enter__(self) -> "MetricsLog":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._disk_full(), closing(self._events), self._file:
            pass  # both are closed, though what the disk had no room for makes either of them fail

    def _disk_full(self) -> AbstractContextManager[None]:
        return disk_full("the metrics", self._run)


class NoLog(AbstractContextManager[Any]):
    """The same of a rank that leaves it to the first one."""

    def write(self, step: int, values: dict[str, float], only_events: dict[str, float] | None = None) -> None:
        """Nothing is written."""

    def __exit__(self, *error: object) -> None:
        pass


def read_metrics(run: Path, steps: int | None = None) -> list[dict[str, float]]:
    """Every whole line of RUN/metrics.jsonl: `step` and what was reported then. A last line that a crash cut is left
    out.

    Raises RunError that names the line: not an object of numbers, a step beyond `steps` or before the line above, or a
    value that was reported for its step already.
    """
    path = run / FILE
    try:
        lines = read_text(path, METRICS_BYTES).split("\n")[:-1]
    except OSError as error:
        raise RunError(f"cannot read {path}: {error.strerror}; is {run} the folder of a training run?") from error
    except UnicodeDecodeError as error:
        raise RunError(f"{path} is damaged: {error}") from error
    found = [_read_line(line, f"{path}:{number}") for number, line in enumerate(lines, start=1)]
    _require_order(path, found, steps)
    return found


def _require_order(path: Path, lines: Sequence[dict[str, float]], steps: int | None) -> None:
    last, seen = 0.0, set[str]()
    for number, line in enumerate(lines, start=1):
        step = line["step"]
        names, seen = line.keys() - {"step"}, seen if step == last else set()
        if step < last:
            problem = f"step {step} stands after step {last}"
        elif steps is not None and step > steps:
            problem = f"step {quoted(step)} is beyond the run's {steps:,}"
        elif twice := sorted(names & seen):
            problem = f"step {step} has {quoted(twice[0])} twice"
        else:
            last, seen = step, seen | names
            continue
        raise RunError(f"{path}:{number} is damaged: {problem}; {WAY_OUT}")


def _read_line(line: str, place: str) -> dict[str, float]:
    try:
        values = json.loads(line, object_pairs_hook=without_repetition)
        if not isinstance(values, dict) or type(values.get("step")) is not int or values["step"] < 0:
            raise ValueError("not an object with a whole number as `step`")
        for name, value in values.items():
            if not _is_figure(name, value):
                raise ValueError(f"{quoted(name)} is {quoted(value)}, and a number up to {LARGEST:g} is wanted")
    except (ValueError, RecursionError) as error:
        raise RunError(f"{place} is damaged: {error}; {WAY_OUT}") from error
    return values


def _is_figure(name: str, value: Any) -> bool:
    """A loss's term (`sra/cos`) may be infinite or NaN where its weight is 0: it is reported, and nothing follows."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return abs(value) <= LARGEST or (isinstance(value, float) and not math.isfinite(value) and "/" in name)
