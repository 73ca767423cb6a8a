"""Memory and storage that fail, by the errors that Python and torch raise for them."""

import pytest
import torch

from schemas.errors import ModelError
from schemas.failures import MEMORY, describe_failure, memory_failed


def test_memory_that_runs_out_is_told_alike_wherever_it_was_asked_for() -> None:
    with pytest.raises(RuntimeError) as of_cpu:
        torch.empty(1 << 50)
    of_triton, of_torch = RuntimeError("Triton Error [CUDA]: out of memory"), torch.OutOfMemoryError("20 GiB")
    for error in (MemoryError(), of_torch, of_triton, of_cpu.value):
        assert describe_failure(error) == MEMORY


def test_memory_is_found_behind_an_error_that_says_something_else() -> None:
    told = ModelError("the model failed over a batch")
    told.__cause__ = RuntimeError("while it ran")
    assert not memory_failed(told) and not memory_failed(None)
    told.__cause__.__context__ = torch.OutOfMemoryError("CUDA out of memory")
    assert memory_failed(told)


def test_storage_names_its_file_and_a_full_one_the_way_out() -> None:
    assert (
        describe_failure(PermissionError(13, "Permission denied", "/a")) == "cannot read or write /a: Permission denied"
    )
    assert describe_failure(OSError("odd")) == "cannot read or write: odd"
    assert describe_failure(TimeoutError()) == "cannot read or write: TimeoutError"
    assert describe_failure(OSError(122, "Disk quota exceeded", "/a")) == (
        "no space left to write /a (Disk quota exceeded); make room and run the same command again"
    )


@pytest.mark.parametrize("error", [RuntimeError("shapes differ"), RecursionError("deep"), ZeroDivisionError()])
def test_an_error_of_the_program_is_none_of_these(error: Exception) -> None:
    assert describe_failure(error) is None
