"""Checkpoints without pickle: a Hugging Face model folder, and safetensors beside it for everything else.

    step-00000500/
      model/                  save_pretrained, in the student's dtype: usable as it is; of an adapted one the adapter
      objective.safetensors   the losses' own parameters (projections)
      optimizer.safetensors   the optimiser's moments and float32 masters, by parameter number
      rng.safetensors         torch's generators, of every rank
      checkpoint.json         step, cache, run, format, checksums of all files above and of itself; written last

A checkpoint is written beside its place and renamed into it, so an interrupted save leaves the previous one intact. Its
files are hashed when it is written and before it is read (a second per GB); if one is damaged, the checkpoint before is
used. Version 1 had neither checksums nor `empty` nor the run it is of; it is still read.
"""

import logging
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import Field
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from schemas.errors import RunError
from schemas.models.files import quiet_transformers
from schemas.storage.atomic import commit_folder, disk_full, folder_beside
from schemas.storage.file_record import FileRecord, list_files
from schemas.storage.fingerprint import fingerprint, hash_file
from schemas.storage.record import read_record
from schemas.strict import Strict
from trainer.optimisation.moments import put_back_moments
from trainer.optimisation.random_state import set_generator_states_of
from trainer.student.adapter import has_adapter, save_adapter
from trainer.student.load import load_saved

RECORD = "checkpoint.json"
MODEL = "model"

logger = logging.getLogger(__name__)


class CheckpointRecord(Strict):
    """The whole of checkpoint.json."""

    format: Literal["stillroom-checkpoint"] = "stillroom-checkpoint"
    version: Literal[1, 2] = 2
    step: Annotated[int, Field(ge=0, description="Optimiser steps taken.")]
    fingerprint: Annotated[str, Field(description="The cache's fingerprint.")]
    skipped: Annotated[int, Field(ge=0, description="Steps that went without their sharpness-aware perturbation.")] = 0
    empty: Annotated[int, Field(ge=0, description="Last steps in a row that had no token to learn.")] = 0
    files: Annotated[
        dict[str, FileRecord] | None,
        Field(description="Size and checksum of every other file, by relative path; null in version 1."),
    ] = None
    run: Annotated[str, Field(description="Hash of the run's identity; empty in version 1.")] = ""
    checksum: Annotated[str, Field(description="Hash of all fields before this one; empty in version 1.")] = ""

    def sealed(self, files: dict[str, FileRecord]) -> "CheckpointRecord":
        """The same with the files and the checksum over all of it."""
        record = self.model_copy(update={"files": files, "checksum": ""})
        return record.model_copy(update={"checksum": record._hash()})

    def is_whole(self) -> bool:
        """Returns whether no field was altered. Version 1 cannot tell."""
        return self.version == 1 or (self.files is not None and self.checksum == self._hash())

    def _hash(self) -> str:
        return fingerprint(self.model_dump(mode="json", exclude={"checksum"}))


@dataclass(frozen=True)
class Start:
    """Where a run goes on: a checkpoint, or its beginning."""

    checkpoint: Path | None
    record: CheckpointRecord


def save_checkpoint(
    folder: Path,
    record: CheckpointRecord,
    model: Any,
    objective: nn.Module,
    moments: dict[str, Tensor],
    generators: dict[str, Tensor],
    keep: int,
) -> None:
    """Write folder/step-N and remove all but the newest `keep`. Costs 3 float32 copies of the student on disk, and half
    a copy more for one in bfloat16.

    `moments` are the optimiser's, and `generators` the states of all ranks'; one rank alone writes, and a student that
    is divided among them, and its moments, lie there whole.

    Raises ResourceError if the disk is full; then nothing of this checkpoint is left, and those before it are whole.
    """
    target = folder / folder_name(record.step)
    with disk_full(f"checkpoint {target.name}", folder.parent), folder_beside(target) as beside:
        with quiet_transformers():
            save_model(model, beside / MODEL)
        save_file(_contiguous(objective.state_dict()), beside / "objective.safetensors")
        save_file(_contiguous(moments), beside / "optimizer.safetensors")
        save_file(generators, beside / "rng.safetensors")
        (beside / RECORD).write_text(
            record.sealed(list_files(beside)).model_dump_json(indent=2) + "\n", encoding="utf-8"
        )
        shutil.rmtree(target, ignore_errors=True)
        commit_folder(beside, target)
    for old in sorted(folder.glob("step-*"))[:-keep]:
        shutil.rmtree(old)


def save_model(model: Any, folder: Path) -> None:
    """All that is trained of it: its `save_pretrained`, or its adapter; the base is read anew when the run goes on."""
    if has_adapter(model):
        save_adapter(model, folder)
    else:
        model.save_pretrained(folder)


def find_start(folder: Path, cache: str, run: str) -> Start:
    """The newest whole checkpoint in `folder`; the run's beginning if none was ever written.

    `cache` and `run` are the fingerprints of what it must be of. Damaged checkpoints are passed over, with a warning
    that says so. Raises RunError if all are damaged, or if one is whole and of another cache or run.
    """
    problems: list[str] = []
    for checkpoint in reversed(complete_checkpoints(folder)):
        try:
            record = read_checkpoint(checkpoint)
            check_files(checkpoint, record)
        except RunError as error:
            problems.append(str(error))
            continue
        other = "cache" if record.fingerprint != cache else "run" if record.run not in ("", run) else None
        if other is not None:
            raise RunError(f"{checkpoint} was made from another {other}; give the run another output")
        for problem in problems:
            logger.warning("%s; going on from %s instead", problem, checkpoint.name)
        return Start(checkpoint, record)
    if problems:
        raise RunError(
            f"no checkpoint of this run is whole: {'; '.join(problems)}. Remove {folder} to begin again at step 0"
        )
    return Start(None, CheckpointRecord(step=0, fingerprint=cache, run=run))


def complete_checkpoints(folder: Path) -> list[Path]:
    """The checkpoints that were written to their end, oldest first."""
    return sorted(path.parent for path in folder.glob(f"step-*/{RECORD}"))


def read_checkpoint(checkpoint: Path) -> CheckpointRecord:
    """Raises RunError if it is damaged, of an unknown format, or of another step than its folder says."""
    record = read_record(checkpoint / RECORD, CheckpointRecord, RunError, f"{checkpoint} is not a whole checkpoint")
    if not record.is_whole() or checkpoint.name != folder_name(record.step):
        raise RunError(f"{checkpoint / RECORD} is damaged: it was altered after it was written")
    return record


def folder_name(step: int) -> str:
    """Of the checkpoint after `step` steps; names sort as steps do."""
    return f"step-{step:08d}"


def check_files(checkpoint: Path, record: CheckpointRecord) -> None:
    """Every file of the checkpoint has its size and checksum, and there is no other. Raises RunError.

    Reads every byte once. A checkpoint of version 1 has no checksums, and is trusted.
    """
    if record.files is None:
        return
    found = {path.relative_to(checkpoint).as_posix() for path in checkpoint.rglob("*") if path.is_file()} - {RECORD}
    if found != record.files.keys():
        odd = min(found ^ record.files.keys())
        state = f"is not named in {RECORD}" if odd in found else "is missing"
        raise RunError(f"{checkpoint} is damaged: {odd} {state}")
    for name, file in record.files.items():
        path = checkpoint / name
        if path.stat().st_size != file.bytes or hash_file(path) != file.sha256:
            raise RunError(f"{checkpoint} is damaged: {name} does not have its checksum")


def load_model(checkpoint: Path, trust_remote_code: bool = False) -> Any:
    """The student as it was, in training mode. Raises ModelError."""
    return load_saved(checkpoint / MODEL, trust_remote_code).train()


def restore(checkpoint: Path, objective: nn.Module, optimizer: torch.optim.Optimizer, rank: int = 0) -> None:
    """Put back the losses' parameters, the optimiser's moments and this rank's generators. Raises RunError."""
    try:
        objective.load_state_dict(load_file(checkpoint / "objective.safetensors"))
        put_back_moments(optimizer, load_file(checkpoint / "optimizer.safetensors"))
        set_generator_states_of(rank, load_file(checkpoint / "rng.safetensors"))
    # Version 1 has no checksums: what is damaged shows here, in whatever way torch has.
    except (OSError, SafetensorError, RuntimeError, LookupError, ValueError, TypeError) as error:
        raise RunError(f"cannot resume from {checkpoint}: {error}; remove it to go back to the one before") from error


def _contiguous(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
