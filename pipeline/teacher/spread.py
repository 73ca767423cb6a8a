"""A teacher larger than one GPU: its layers spread over the actor's GPUs, CPU memory and disk by accelerate.

A layer that does not lie on a GPU is brought there for its part of each pass, so larger batches read it less often per
token. From disk it is read where it lies in the model's own files; only what transformers converts while it loads, such
as experts that it joins, is written once more, to a temporary folder.
"""

import logging
import math
import weakref
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import psutil
import torch

from schemas.configs.extraction import TeacherConfig
from schemas.errors import ModelError, ResourceError
from schemas.models.load import load_model
from schemas.models.spread import main_device
from schemas.storage.atomic import folder_beside

FREE = 0.9  # of the CPU's free memory, what transformers takes where nothing is said


def load_spread(config: TeacherConfig, folder: Path, device: torch.device, scratch: Path, owner: str) -> Any:
    """The model in `config.dtype`, spread; it computes on the GPUs or, where `device` is the CPU, there.

    What must be written to disk is beside `scratch`, until the model is gone or the process ends; what a killed one
    leaves bears the token of `owner`. Raises ModelError as `load_model` does, or without accelerate; ResourceError:
    `config.max_memory` has no room for a single layer.
    """
    _require_accelerate()
    with ExitStack() as stack, _quiet_accelerate():
        placement = {
            "device_map": "auto",
            "max_memory": _memory(config.max_memory, device),
            "offload_folder": stack.enter_context(folder_beside(scratch, owner)),
        }
        model = load_model(
            folder, config.kind, getattr(torch, config.dtype), config.trust_remote_code, placement=placement
        )
        _require_room(config, model, device)
        if config.kind == "encoder" and getattr(model, "pooler", None) is not None:
            model.pooler = None  # no state passes through it, and encoders are often saved without: it lies nowhere
        weakref.finalize(model, stack.pop_all().close)
    return model


def _memory(asked: Mapping[str, str] | None, device: torch.device) -> dict[int | str, int | str] | None:
    """What accelerate takes for `max_memory`; None lets it take what is free everywhere."""
    if asked is not None:
        return {int(name) if name.isdecimal() else name: size for name, size in asked.items()}
    # Where the CPU is asked for, a GPU that can be seen is not for us.
    return {"cpu": math.floor(psutil.virtual_memory().available * FREE)} if device.type == "cpu" else None


def _require_room(config: TeacherConfig, model: Any, device: torch.device) -> None:
    places = set(getattr(model, "hf_device_map", {"": device}).values())
    limits = "the memory that is free" if config.max_memory is None else f"teacher.max_memory ({_shown(config)})"
    if places == {"disk"}:
        raise ResourceError(
            f"{limits} has room for no layer of {config.model}: beside what is kept there, the first device and the "
            "CPU need room for the largest layer of those that are offloaded; give more"
        )
    if main_device(model).type != device.type:
        raise ResourceError(
            f"{limits} has room for no layer of {config.model} on a GPU, so it would run on the CPU, which rounds "
            "differently; give GPU 0 more, or set workers.gpus to 0"
        )


def _shown(config: TeacherConfig) -> str:
    return ", ".join(f"{name}: {size}" for name, size in (config.max_memory or {}).items())


def _require_accelerate() -> None:
    try:
        import accelerate  # noqa: F401
    except ImportError as error:
        raise ModelError("teacher.placement: spread needs accelerate: pip install 'stillroom[spread]'") from error


@contextmanager
def _quiet_accelerate() -> Iterator[None]:
    """It warns that weights are offloaded, which is what was asked for."""
    logger = logging.getLogger("accelerate")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
