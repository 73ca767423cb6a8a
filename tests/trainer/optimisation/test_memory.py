"""Memory that is kept: a step like the ones before it costs no page faults."""

import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys
import torch
from trainer.optimisation.memory import keep_freed_memory

if sys.argv[1] == "kept":
    keep_freed_memory()

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

weights = torch.ones(256, 8192, requires_grad=True)

def step():
    # Three matrices of 1,024 x 8,192: 32 MB each, a mapping of its own.
    (torch.ones(1024, 256) @ weights).tanh().sum().backward()
    weights.grad = None

for _ in range(16):
    step()
before = faults()
for _ in range(8):
    step()
print(faults() - before)
"""


def faults(what: str) -> int:
    found = subprocess.run([sys.executable, "-c", PROGRAM, what], capture_output=True, text=True, check=True)
    return int(found.stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="mallopt is glibc's")
def test_kept_memory_is_not_faulted_in_again() -> None:
    handed_back, kept = faults("handed back"), faults("kept")
    assert handed_back >= 8 * 3 * 16  # pages of 2 MB, where the system gives them
    assert kept < handed_back / 3
