"""Loading a teacher: its weights, as they are saved or quantised on the way, an adapter merged, on its device or spread
over several."""

import tempfile
from pathlib import Path
from typing import Any

import torch

from pipeline.teacher.adapter import merge_adapter
from pipeline.teacher.quantise import quantising
from pipeline.teacher.spread import load_spread
from schemas.configs.extraction import MERGE_BEFORE, TeacherConfig
from schemas.errors import ModelError, ResourceError
from schemas.models.load import load_model
from schemas.models.quantised import runs_quantised, set_dtype

# Beside it, what a spread teacher must write to disk lies if nobody says where.
SCRATCH = Path(tempfile.gettempdir(), "stillroom-teacher")


def load_teacher(
    config: TeacherConfig, folder: Path, adapter: Path | None, scratch: Path = SCRATCH, owner: str = ""
) -> Any:
    """The model in `config.dtype` on its device, for inference only.

    One that is to be spread is, as `load_spread` has it. Raises ModelError: damaged, incomplete or misshapen weights,
    an adapter that does not fit, a package for its quantisation that is not here; ResourceError: no GPU, or no room to
    spread it.
    """
    device = choose_device(config)
    if config.placement == "spread":
        return load_spread(config, folder, device, scratch, owner).eval().requires_grad_(False)
    dtype = getattr(torch, config.dtype)
    # What is quantised is packed where it is to run, and some of it cannot be moved.
    there = {"device_map": {"": 0 if device.type == "cuda" else "cpu"}}
    if config.quantisation is not None:
        placement = there | quantising(config.quantisation, dtype)
    else:
        placement = there if runs_quantised(folder, config.trust_remote_code) else {}
    if placement and adapter is not None:
        raise ModelError(f"teacher.adapter cannot be merged into {folder}, which is quantised: {MERGE_BEFORE}")
    model = load_model(folder, config.kind, dtype, config.trust_remote_code, placement)
    if adapter is not None:
        model = merge_adapter(model, adapter)
    model = model.eval().requires_grad_(False)
    if not placement:
        return model.to(device)
    set_dtype(model, dtype)
    return model


def choose_device(config: TeacherConfig) -> torch.device:
    """Where the teacher runs; auto is the GPU if there is one. Raises ResourceError."""
    if config.device == "cuda" and not torch.cuda.is_available():
        raise ResourceError("teacher.device is cuda, but torch sees no GPU here; set workers.gpus, or device: cpu")
    found = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(found if config.device == "auto" else config.device)
