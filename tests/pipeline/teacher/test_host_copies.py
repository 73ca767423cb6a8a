"""Numbers on their way to the host: whole, whatever the device does next."""

import pytest
import torch

from pipeline.teacher.host_copies import HostCopier


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_copies_are_what_was_there_when_they_began(device: str) -> None:
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("torch sees no GPU here")
    copier = HostCopier(torch.device(device))
    begun = []
    for number in range(4):
        rows = torch.full((1000, 64), float(number), device=device).to(torch.bfloat16)
        begun.append(copier.start([rows, rows[:0], rows.sum(dtype=torch.float32)]))
        del rows  # whose memory the next takes
    for number, copies in enumerate(begun):
        rows, none, total = copies.wait()
        assert rows.device.type == "cpu" and rows.dtype == torch.bfloat16 and rows.is_pinned() == (device == "cuda")
        assert rows.shape == (1000, 64) and (rows == number).all() and none.shape == (0, 64)
        assert float(total) == 64_000 * number
