"""Running a model that others wrote: its errors in one message, and a check that leaves it as it was."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from schemas.errors import ModelError, StillroomError
from schemas.models.files import brief

# What a module's own machinery keeps in its __dict__; everything else there is the model's.
_MACHINERY = frozenset(vars(nn.Module())) - {"training"}


@contextmanager
def forward_errors(model: Any, doing: str) -> Iterator[None]:
    """Errors of a forward pass inside become one ModelError that says what was being done.

    Memory running out passes through as it is, because a smaller batch may mend it.
    """
    try:
        yield
    except (StillroomError, torch.OutOfMemoryError, MemoryError):
        raise
    # A model's own code may raise anything; it is passed on, named.
    except Exception as error:
        raise ModelError(f"{type(model).__name__} cannot be run {doing}: {brief(error)}") from error


@contextmanager
def unchanged(model: nn.Module) -> Iterator[None]:
    """Run the model inside in evaluation mode and put back whatever the passes change: the mode of every module, its
    buffers, its other attributes (caches, counters) and torch's random generators. Costs a copy of the buffers."""
    attributes = {
        module: {name: value for name, value in vars(module).items() if name not in _MACHINERY}
        for module in model.modules()
    }
    names = {module: dict(module._buffers) for module in model.modules()}
    buffers = {buffer: buffer.clone() for buffer in model.buffers()}
    devices = [buffer.device.index for buffer in (*model.parameters(), *buffers) if buffer.is_cuda][:1]
    with torch.random.fork_rng(devices):
        try:
            model.eval()
            yield
        finally:
            with torch.no_grad():
                for buffer, value in buffers.items():
                    buffer.copy_(value)
            for module, kept in attributes.items():
                module._buffers.clear()
                module._buffers.update(names[module])
                for name in vars(module).keys() - _MACHINERY - kept.keys():
                    delattr(module, name)
                vars(module).update(kept)
