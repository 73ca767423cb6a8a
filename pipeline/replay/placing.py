"""Where the teacher of a replay lies: on one device, or its layers spread where no device here has room for all."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path

import psutil
import torch
from safetensors import safe_open

from pipeline.teacher.spread import FREE
from schemas.configs.extraction import Placement
from schemas.models.quantised import runs_quantised
from schemas.models.weights import INDEX, find_weights


@dataclass(frozen=True)
class Placing:
    """What is asked for: a cache does not say where its teacher lay, because that changes no byte of it."""

    placement: Placement | None = None  # None: spread where a limit is given, or the model has no room on one device
    max_memory: Mapping[str, str] | None = None  # as `teacher.max_memory`

    def choose(self, folder: Path, dtype: str, device: str, trust_remote_code: bool = False) -> Placement:
        """For the model in `folder`, which can be spread, in a compute dtype.

        Raises ModelError for a folder without weights.
        """
        if self.asks:
            return self.placement or "spread"
        needed = None if runs_quantised(folder, trust_remote_code) else measure(folder, dtype)
        return "device" if needed is None or needed <= FREE * free_bytes(device) else "spread"

    @property
    def asks(self) -> bool:
        """Whether anything is asked for."""
        return self.placement is not None or self.max_memory is not None


def measure(folder: Path, dtype: str) -> int | None:
    """Bytes of a model's weights in `dtype`, by the headers of its files; None for a GGUF file, which is unpacked.

    Raises ModelError for a folder without weights.
    """
    files = [path for path in find_weights(folder) if path.name != INDEX]
    if any(path.suffix != ".safetensors" for path in files):
        return None
    numbers = 0
    for path in files:
        with safe_open(path, framework="pt") as file:
            numbers += sum(prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118
    itemsize: int = getattr(torch, dtype).itemsize
    return numbers * itemsize


def free_bytes(device: str) -> int:
    """Of the memory of the GPU that is used, or of the CPU."""
    if device == "cuda":
        free: int = torch.cuda.mem_get_info()[0]
        return free
    available: int = psutil.virtual_memory().available
    return available
