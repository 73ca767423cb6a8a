"""Memory that is kept: a step like the ones before it costs no page faults."""

import sys
from types import SimpleNamespace

import pytest

from tests.commands import run
from trainer.optimisation.memory import keep_freed_memory

PROGRAM = """
import resource, sys
import torch
from trainer.optimisation.memory import keep_freed_memory

if sys.argv[1] == "kept":
    keep_freed_memory()

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

weights = torch.ones(16, 8192, requires_grad=True)

def step():
    # Three matrices of 1,024 x 8,192: 32 MB each, a mapping of its own.
    (torch.ones(1024, 16) @ weights).tanh().sum().backward()
    weights.grad = None

for _ in range(16):
    step()
before = faults()
for _ in range(8):
    step()
print(faults() - before)
"""


def faults(what: str) -> int:
    found = run(["-c", PROGRAM, what])
    assert found.returncode == 0, found.stderr
    return int(found.stdout)


def test_what_is_asked_of_malloc(monkeypatch: pytest.MonkeyPatch) -> None:
    """The numbers of glibc's malloc.h: M_MMAP_MAX 0, M_TRIM_THRESHOLD without end, M_TOP_PAD of 64 MiB."""
    asked = dict[int, int]()
    monkeypatch.setattr("ctypes.CDLL", lambda name: SimpleNamespace(mallopt=asked.__setitem__))
    keep_freed_memory()
    assert asked == {-4: 0, -1: -1, -2: 67_108_864}


def test_without_glibc_nothing_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    opened = list[object]()
    monkeypatch.setattr("ctypes.CDLL", lambda name: opened.append(name) or SimpleNamespace())  # type: ignore[func-returns-value]
    keep_freed_memory()
    assert opened == [None]  # the program itself, with the C library that it runs on


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="mallopt is glibc's")
def test_kept_memory_is_not_faulted_in_again() -> None:
    handed_back, kept = faults("handed back"), faults("kept")
    assert handed_back >= 8 * 3 * 16  # pages of 2 MB, where the system gives them
    assert kept < handed_back / 3
