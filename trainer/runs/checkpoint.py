"""Checkpoints without pickle: a Hugging Face model folder, and safetensors beside it for everything else.

    step-00000500/
      model/                  save_pretrained, float32: usable as it is
      objective.safetensors   the losses' own parameters (projections)
      optimizer.safetensors   AdamW's moments, by parameter number
      rng.safetensors         torch's generators
      checkpoint.json         step, cache fingerprint, format; written last

A checkpoint is written beside its place and renamed into it, so an interrupted save leaves the previous one intact.
"""

import shutil
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
from schemas.strict import Strict
from trainer.optimisation.random_state import generator_states, set_generator_states
from trainer.student.load import load_saved

RECORD = "checkpoint.json"
MODEL = "model"


class CheckpointRecord(Strict):
    """The whole of checkpoint.json."""

    format: Literal["stillroom-checkpoint"] = "stillroom-checkpoint"
    version: Literal[1] = 1
    step: Annotated[int, Field(ge=0, description="Optimiser steps taken.")]
    fingerprint: Annotated[str, Field(description="The cache's fingerprint.")]
    skipped: Annotated[int, Field(ge=0, description="Steps that went without their sharpness-aware perturbation.")] = 0


def save_checkpoint(
    folder: Path,
    record: CheckpointRecord,
    model: Any,
    objective: nn.Module,
    optimizer: torch.optim.Optimizer,
    keep: int,
) -> None:
    """Write folder/step-N and remove all but the newest `keep`. Costs 3 float32 copies of the student on disk.

    Raises ResourceError if the disk is full; then nothing of this checkpoint is left, and those before it are whole.
    """
    target = folder / f"step-{record.step:08d}"
    with disk_full(f"checkpoint {target.name}", folder.parent), folder_beside(target) as beside:
        with quiet_transformers():
            model.save_pretrained(beside / MODEL)
        save_file(_contiguous(objective.state_dict()), beside / "objective.safetensors")
        save_file(_contiguous(_moments(optimizer)), beside / "optimizer.safetensors")
        save_file(generator_states(), beside / "rng.safetensors")
        (beside / RECORD).write_text(record.model_dump_json(indent=2) + "\n", encoding="utf-8")
        shutil.rmtree(target, ignore_errors=True)
        commit_folder(beside, target)
    for old in sorted(folder.glob("step-*"))[:-keep]:
        shutil.rmtree(old)


def latest_checkpoint(folder: Path) -> Path | None:
    """The newest checkpoint that was written to its end, or None."""
    complete = sorted(path.parent for path in folder.glob(f"step-*/{RECORD}"))
    return complete[-1] if complete else None


def read_record(checkpoint: Path) -> CheckpointRecord:
    """Raises RunError if it is damaged or of an unknown format."""
    try:
        return CheckpointRecord.model_validate_json((checkpoint / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:  # pydantic's errors and UTF-8's are ValueErrors
        raise RunError(
            f"{checkpoint / RECORD} is damaged: {error}; remove {checkpoint} to go back to the one before"
        ) from error


def load_model(checkpoint: Path, trust_remote_code: bool = False) -> Any:
    """The student as it was, in training mode. Raises ModelError."""
    return load_saved(checkpoint / MODEL, trust_remote_code).train()


def restore(checkpoint: Path, objective: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Put back the losses' parameters, the optimiser's moments and the generators. Raises RunError."""
    try:
        objective.load_state_dict(load_file(checkpoint / "objective.safetensors"))
        _put_back_moments(optimizer, load_file(checkpoint / "optimizer.safetensors"))
        generators = load_file(checkpoint / "rng.safetensors")
    except (OSError, SafetensorError, RuntimeError, KeyError) as error:
        raise RunError(f"cannot resume from {checkpoint}: {error}; remove it to go back to the one before") from error
    set_generator_states(generators)


def _parameters(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def _moments(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    return {
        f"{number}.{name}": value
        for number, parameter in enumerate(_parameters(optimizer))
        for name, value in optimizer.state.get(parameter, {}).items()
    }


def _put_back_moments(optimizer: torch.optim.Optimizer, moments: dict[str, Tensor]) -> None:
    parameters = _parameters(optimizer)
    for key, value in moments.items():
        number, name = key.split(".")
        parameter = parameters[int(number)]
        # AdamW keeps its step count on the CPU unless fused; a copy to the parameter's device serves both.
        optimizer.state[parameter][name] = value.to(parameter.device, copy=True)


def _contiguous(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
