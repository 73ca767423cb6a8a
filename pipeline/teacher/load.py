"""Loading a teacher: its weights, an adapter merged, on its device or spread over several."""

import tempfile
from pathlib import Path
from typing import Any

import torch

from pipeline.teacher.adapter import merge_adapter
from pipeline.teacher.spread import load_spread
from schemas.configs.extraction import TeacherConfig
from schemas.errors import ResourceError
from schemas.models.load import load_model

# Beside it, what a spread teacher must write to disk lies if nobody says where.
SCRATCH = Path(tempfile.gettempdir(), "stillroom-teacher")


def load_teacher(
    config: TeacherConfig, folder: Path, adapter: Path | None, scratch: Path = SCRATCH, owner: str = ""
) -> Any:
    """The model in `config.dtype` on its device, for inference only.

    One that is to be spread is, as `load_spread` has it. Raises ModelError: damaged, incomplete or misshapen weights,
    an adapter that does not fit; ResourceError: no GPU, or no room to spread it.
    """
    device = choose_device(config)
    if config.placement == "spread":
        return load_spread(config, folder, device, scratch, owner).eval().requires_grad_(False)
    model = load_model(folder, config.kind, getattr(torch, config.dtype), config.trust_remote_code)
    if adapter is not None:
        model = merge_adapter(model, adapter)
    return model.eval().requires_grad_(False).to(device)


def choose_device(config: TeacherConfig) -> torch.device:
    """Where the teacher runs; auto is the GPU if there is one. Raises ResourceError."""
    if config.device == "cuda" and not torch.cuda.is_available():
        raise ResourceError("teacher.device is cuda, but torch sees no GPU here; set workers.gpus, or device: cpu")
    found = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(found if config.device == "auto" else config.device)
