"""A sweep's folder, and the record of the runs that were ever planned in it.

SWEEP/
  sweep.json    which runs belong to it, by name, with a hash of what each trains
  runs/NAME/    the folder of one run, as `stillroom train` writes it
  logs/NAME.log what a run said that was trained in a process of its own
  table.csv     a line for each run; table.md, the table by variants; curves.png
  .writer       the lock of the sweep that runs here; gone afterwards
"""

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from jobs.sweep.naming import FOLDER
from jobs.sweep.plan import Run
from schemas.errors import RunError
from schemas.storage.atomic import disk_full, remove_temporaries, write_text
from schemas.storage.lock import acquire
from schemas.storage.record import read_record
from schemas.storage.writable import require_apart, require_writable
from schemas.strict import Strict

RECORD, LOCK, RUNS, LOGS = "sweep.json", ".writer", "runs", "logs"

logger = logging.getLogger(__name__)


class SweepRecord(Strict):
    """The whole of sweep.json."""

    format: Literal["stillroom-sweep"] = "stillroom-sweep"
    version: Literal[1] = 1
    runs: Annotated[
        dict[Annotated[str, Field(pattern=FOLDER)], str],
        Field(description="Every run by the name of its folder, with a hash of its config."),
    ]


@contextmanager
def opened(folder: Path, runs: Sequence[Run]) -> Iterator[tuple[Run, ...]]:
    """The runs, each in the folder that it has already if it was planned before under another name.

    Nobody else works on the sweep meanwhile. Raises RunError: something else lies in the folder, or another sweep works
    there. ResourceError: the disk is full.
    """
    found = _found(folder)
    with disk_full("the sweep", folder):
        (folder / RUNS).mkdir(parents=True, exist_ok=True)
    lock = acquire(folder / LOCK, lambda holder: _busy(folder, holder), logger.warning)
    try:
        remove_temporaries(folder)
        named = {key: name for name, key in found.items()}
        kept = tuple(_in_folder(run, named.get(run.key, run.name)) for run in runs)
        _require_own_folders(folder, kept)
        record = SweepRecord(runs=found | {run.name: run.key for run in kept})
        with disk_full("the record", folder):
            write_text(folder / RECORD, record.model_dump_json(indent=2) + "\n")
        yield kept
    finally:
        lock.release()


def _in_folder(run: Run, name: str) -> Run:
    output = run.config.output.with_name(name)
    return replace(run, name=name, config=run.config.model_copy(update={"output": output}))


def _require_own_folders(folder: Path, runs: Sequence[Run]) -> None:
    keys = dict[str, str]()
    for run in runs:
        if keys.setdefault(run.name, run.key) != run.key:
            raise RunError(f"{folder / RUNS / run.name} is of another run of this sweep; name the values or the runs")


def _found(folder: Path) -> dict[str, str]:
    if (folder / RECORD).exists():
        return read_record(folder / RECORD, SweepRecord, RunError, f"{folder} is not the folder of a sweep").runs
    require_writable(folder)
    require_apart(folder)
    if folder.is_dir() and any(path.name not in (LOCK, RUNS) and not path.match(".*.tmp") for path in folder.iterdir()):
        raise RunError(f"output {folder} is not empty and holds no sweep; give another folder")
    return {}


def _busy(folder: Path, holder: str) -> RunError:
    return RunError(
        f"another sweep works in {folder}: {holder}; wait until it is done, or give this one another output"
    )
