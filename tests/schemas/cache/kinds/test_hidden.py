"""Rows of hidden states whose sizes differ: none is empty, none longer than a state in bfloat16."""

import numpy as np
import pytest

from schemas.cache.arrays import StoredStates
from schemas.cache.kinds.hidden import KIND
from schemas.cache.ragged import RaggedArray, make_starts
from schemas.cache.teacher import TeacherRecord

TEACHER = TeacherRecord(model="m", kind="causal", num_layers=2, hidden_size=16, vocab_size=9, max_tokens=8)


def fault(sizes: list[int]) -> str | None:
    stored = np.array(sizes, np.uint16)
    values = RaggedArray(np.zeros(sum(sizes), np.uint8), stored, make_starts(stored))
    return KIND.find_fault(StoredStates((values,), np.array([len(sizes)]), TEACHER, None))


def test_sound_rows_have_no_fault() -> None:
    assert fault([1, 32, 5]) is None and fault([]) is None
    raw = StoredStates((np.zeros((3, 16), np.uint16),), np.array([3]), TEACHER, None)
    assert KIND.find_fault(raw) is None


@pytest.mark.parametrize("size", [0, 33])
def test_a_wrong_row_is_named(size: int) -> None:
    assert fault([4, size, 4]) == f"row 1 has {size} bytes, not 1 to 32"
