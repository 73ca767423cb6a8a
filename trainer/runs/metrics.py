"""metrics.jsonl and TensorBoard events: what a run reported, one JSON object per line, without wall-clock times."""

import json
from contextlib import AbstractContextManager, closing
from itertools import pairwise
from pathlib import Path
from types import TracebackType

from schemas.errors import RunError
from schemas.storage.atomic import disk_full, write_text
from schemas.storage.regular import read_text

FILE = "metrics.jsonl"
METRICS_BYTES = 1 << 30  # at most


class MetricsLog:
    """Appends to RUN/metrics.jsonl and RUN/tensorboard; a resumed run first drops what lies beyond its checkpoint.

    Every method raises ResourceError if the disk is full.
    """

    def __init__(self, run: Path, step: int):
        from torch.utils.tensorboard import SummaryWriter  # 2 seconds to import: only for who trains

        self._run = run
        path = run / FILE
        kept = [line for line in read_metrics(run) if line["step"] <= step] if step and path.exists() else []
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


def read_metrics(run: Path) -> list[dict[str, float]]:
    """Every whole line of RUN/metrics.jsonl: `step` and what was reported then. A last line that a crash cut is left
    out. Raises RunError that names the line."""
    path = run / FILE
    try:
        lines = read_text(path, METRICS_BYTES).split("\n")[:-1]
    except OSError as error:
        raise RunError(f"cannot read {path}: {error.strerror}; is {run} the folder of a training run?") from error
    except UnicodeDecodeError as error:
        raise RunError(f"{path} is damaged: {error}") from error
    found = [_read_line(line, f"{path}:{number}") for number, line in enumerate(lines, start=1)]
    for number, (before, after) in enumerate(pairwise([0, *(line["step"] for line in found)]), start=1):
        if after < before:
            raise RunError(f"{path}:{number} is damaged: step {after} stands after step {before}")
    return found


def _read_line(line: str, place: str) -> dict[str, float]:
    try:
        values = json.loads(line)
        if not isinstance(values, dict) or type(values.get("step")) is not int:
            raise ValueError("not an object with a whole number as `step`")
    except (ValueError, RecursionError) as error:
        raise RunError(f"{place} is damaged: {error}") from error
    return values
