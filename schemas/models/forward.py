"""Running a model that others wrote: its errors in one message, and a check that leaves it as it was."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from schemas.errors import ModelError, StillroomError
from schemas.models.files import brief

# A check never changes these, so they are not put back.
_KEPT = frozenset({"_parameters", "_modules"})


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
    buffers, hooks and other attributes (caches, counters), and torch's random generators.

    transformers leaves hooks and a note of them in a model of which hidden states were once asked. Costs a copy of the
    buffers.
    """
    modules = {module: _attributes(module) for module in model.modules()}
    buffers = {buffer: buffer.clone() for buffer in model.buffers()}
    devices = sorted({tensor.device.index for tensor in model.parameters() if tensor.is_cuda})
    with torch.random.fork_rng(devices):
        try:
            model.eval()
            yield
        finally:
            with torch.no_grad():
                for buffer, value in buffers.items():
                    buffer.copy_(value)
            for module, attributes in modules.items():
                _put_back(module, attributes)


def _attributes(module: nn.Module) -> dict[str, tuple[Any, Any]]:
    """What stands in a module's __dict__, and the content of the dicts there: hooks and names of buffers."""
    return {
        name: (value, dict(value) if isinstance(value, dict) else None)
        for name, value in vars(module).items()
        if name not in _KEPT
    }


def _put_back(module: nn.Module, attributes: dict[str, tuple[Any, Any]]) -> None:
    for name in vars(module).keys() - attributes.keys() - _KEPT:
        del vars(module)[name]
    for name, (value, content) in attributes.items():
        if content is not None:  # the same dict, because handles of hooks point to it
            value.clear()
            value.update(content)
        vars(module)[name] = value
