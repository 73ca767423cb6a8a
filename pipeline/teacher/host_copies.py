"""Numbers on their way from the teacher's device to the host, while the device goes on with the next batch.

A GPU copies into pinned memory by itself, beside its computing; pinned memory is kept by torch and used again. So a
batch's numbers are asked for once the next batch is launched: then they are there. What waits for a GPU batch by batch,
or array by array, lets it stand idle in between.

Shapes: N rows of one array.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class HostCopies:
    """Copies of some tensors, on the host."""

    _copies: list[Tensor]
    _arrived: torch.cuda.Event | None

    def wait(self) -> list[Tensor]:
        """The copies, once they are whole."""
        if self._arrived is not None:
            self._arrived.synchronize()
        return self._copies


class HostCopier:
    """Copies from one device."""

    def __init__(self, device: torch.device):
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None

    def start(self, tensors: Sequence[Tensor]) -> HostCopies:
        """Begin to copy what the device has been asked to compute; the tensors may be let go at once. Where it is not a
        GPU, the copies are there on return, and a CPU's are the tensors themselves."""
        if self._stream is None:
            return HostCopies([tensor.cpu() for tensor in tensors], None)
        self._stream.wait_stream(torch.cuda.current_stream(self._stream.device))
        with torch.cuda.stream(self._stream):
            copies = [_start(tensor) for tensor in tensors]
            for tensor in tensors:
                tensor.record_stream(self._stream)  # its memory is not given away before it is copied
            return HostCopies(copies, self._stream.record_event())


def _start(tensor: Tensor) -> Tensor:
    return torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True).copy_(tensor, non_blocking=True)
