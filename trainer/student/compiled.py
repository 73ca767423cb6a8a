"""The student's layers compiled by torch (`compile: true`), each in place: names of weights stay the same.

Layers are alike, so one compilation serves all of them, however many there are; sizes of batches are variables in it.
It also serves later students of the process whose layers are the same.
Attention that reads masses or packed rows runs as it is, between two compiled halves of a layer. Compiled code sums in
another order, and in an order of its own whenever it is made anew: a run that goes on agrees with an uninterrupted one
to rounding, not bit for bit.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from inspect import signature
from itertools import count
from typing import Any

import torch

from schemas.errors import ResourceError
from schemas.models.files import brief
from schemas.models.token_mass import find_blocks
from trainer.student.sentence_encoder import SentenceEncoder

WAYS = 8  # torch's own limit, which here is one student's
_students = count(1)  # of this process: a sweep trains many


def compile_layers(student: Any, device: torch.device, backend: str = "inductor") -> None:
    """Let training passes run compiled layers; the first pass compiles them, which takes from some seconds to minutes.

    Whatever is to be proven of the student is proven before. Raises ResourceError if this machine cannot compile for
    `device`, ModelError if the student has no list of layers.
    """
    blocks = find_blocks(student.model if isinstance(student, SentenceEncoder) else student)
    _require_compiler(device, backend)
    # Torch gives a function up that has come in so many ways, be it in students that are gone; torch 2.6 always does.
    ways = {"recompile_limit": WAYS * next(_students)}
    options: dict[str, Any] = {
        name: value for name, value in ways.items() if name in signature(torch.compile).parameters
    }
    for block in blocks:
        # Not the call around it, in which a divided student's weights are gathered before, and given up after.
        block.forward = torch.compile(block.forward, dynamic=True, backend=backend, **options)


def _require_compiler(device: torch.device, backend: str) -> None:
    try:
        torch.compile(_probe, dynamic=True, backend=backend)(torch.zeros(8, device=device))
    # What is missing shows in many ways: no C++ compiler, no Python headers, no Triton, no place to write.
    except Exception as error:
        needs = "Triton and a C compiler" if device.type == "cuda" else "a C++ compiler, say g++"
        reason = brief(error).partition(" Set TORCHDYNAMO")[0]  # what follows is for torch's own developers
        raise ResourceError(
            f"compile: torch cannot compile for the {device.type} here, which takes {needs}: {reason}. Install that, "
            "or set compile to false"
        ) from error


def _probe(x_X: torch.Tensor) -> torch.Tensor:
    return x_X.sin() + 1


@contextmanager
def as_written() -> Iterator[None]:
    """Inside, a compiled student runs as it is written: few texts are not worth compiling for."""
    with torch.compiler.set_stance("force_eager"):
        yield
