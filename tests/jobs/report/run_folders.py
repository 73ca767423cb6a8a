"""Folders as training leaves them, without training."""

import json
from pathlib import Path
from typing import Any

from schemas.configs.training import TrainingConfig
from schemas.storage.file_record import FileRecord
from trainer.runs.record import NOT_IDENTITY, RunRecord

STEPS = (10, 20, 30)


def write_run(
    folder: Path,
    values: list[float],
    finished: bool = True,
    fingerprint: str = "a" * 64,
    held_out: str = "",
    **changes: Any,
) -> Path:
    """`held_out`: the hash of what it was measured on; empty for a run of an earlier version, which has none."""
    folder.mkdir(parents=True)
    given = {"cache": "c", "output": str(folder), "student": {"model": "m"}, "steps": 30} | changes
    config = TrainingConfig.model_validate(given)
    identity = config.model_dump(mode="json", exclude=NOT_IDENTITY)
    model = {"config.json": FileRecord(bytes=2, sha256="0" * 64)} if finished else None
    inputs = {"evaluation": held_out} if held_out else None
    record = RunRecord(
        fingerprint=fingerprint, identity=identity, steps=given["steps"], finished=finished, model=model, inputs=inputs
    )
    (folder / "run.json").write_text(record.model_dump_json())
    lines: list[dict[str, float]] = []
    for step, value in zip(STEPS, values, strict=False):
        lines += [
            {"step": step, "loss": 3.0, "lr": 1e-3},
            {"step": step, "bits_per_byte": value, "nats_per_token": 2 * value},
        ]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder
