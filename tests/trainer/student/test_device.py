"""Where a model runs, and in which precision, on a machine without a GPU and on one that has one."""

import pytest
import torch

from schemas.errors import ResourceError
from trainer.student.device import choose_device, rounded_products, use_bfloat16

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize(
    ("name", "there", "device"), [("auto", True, CUDA), ("auto", False, CPU), ("cpu", True, CPU), ("cuda", True, CUDA)]
)
def test_a_gpu_is_taken_where_there_is_one(
    monkeypatch: pytest.MonkeyPatch, name: str, there: bool, device: torch.device
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    assert choose_device(name) == device


def test_a_gpu_that_is_asked_for_and_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ResourceError, match=r"^device is cuda, but torch sees no GPU; set device: auto or cpu$"):
        choose_device("cuda")


def test_bfloat16_is_taken_where_a_gpu_computes_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [use_bfloat16(name, CPU) for name in ("auto", "float32", "bfloat16")] == [False, False, True]
    assert use_bfloat16("auto", CPU, "bfloat16")
    for native in (True, False):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation, native=native: native)
        assert use_bfloat16("auto", CUDA) is native
    assert use_bfloat16("bfloat16", CUDA) and not use_bfloat16("float32", CUDA)


def test_products_are_rounded_inside_and_as_they_were_outside() -> None:
    before, inside = torch.get_float32_matmul_precision(), []
    for device, rounded in ((CUDA, True), (CUDA, False), (CPU, True)):
        with rounded_products(device, rounded):
            inside.append(torch.get_float32_matmul_precision())
        assert torch.get_float32_matmul_precision() == before
    assert inside == ["high", before, before] and before == "highest"
