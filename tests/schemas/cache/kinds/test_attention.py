"""What `verify` asks of attention maps: no weight is negative, and no token pays more than all of its attention."""

from typing import Any

import numpy as np
import pytest

from schemas.cache.arrays import StoredStates
from schemas.cache.kinds.attention import KIND
from schemas.cache.teacher import TeacherRecord

SIZES: dict[str, Any] = {"num_layers": 2, "hidden_size": 4, "vocab_size": 8, "max_tokens": 2048}
TEACHER = TeacherRecord(model="m", kind="causal", **SIZES)
COUNTS = np.array([3, 0, 6])  # pairs of 2, 0 and 3 tokens
GOOD = [1.0, 0.25, 0.75, 1.0, 0.5, 0.5, 0.2, 0.3, 0.5]


def fault(weights: Any, dtype: Any = np.float16, counts: np.ndarray = COUNTS, teacher: Any = TEACHER) -> str | None:
    return KIND.find_fault(StoredStates((np.array(weights, dtype),), counts, teacher, None))


def test_sound_maps_have_no_fault() -> None:
    assert fault(GOOD) is None
    assert fault(np.stack([GOOD, GOOD], 1)) is None  # two heads
    assert fault([*GOOD[:6], 0.2, 0.3, 0.25]) is None  # the rest went to a sink
    assert fault([], counts=np.zeros(2, np.int64)) is None
    encoder = TEACHER.model_copy(update={"kind": "encoder"})
    assert fault([0.5, 0.5, 0.25, 0.75, 1.0], counts=np.array([4, 1]), teacher=encoder) is None
    bits = (np.array(GOOD, np.float32).view(np.uint32) >> 16).astype(np.uint16)
    assert fault(bits, np.uint16) is None


@pytest.mark.parametrize(
    ("row", "value", "said"),
    [
        (2, -0.1, "row 2 is a negative weight of attention"),
        (8, 0.55, "token 2 of sample 2 of the shard pays 1.05 of its attention"),
        (0, 0.0, "token 0 of sample 0 of the shard pays 0 of its attention"),
    ],
)
def test_a_wrong_weight_is_named(row: int, value: float, said: str) -> None:
    assert fault([*GOOD[:row], value, *GOOD[row + 1 :]], np.float32) == said
    two = np.stack([GOOD, [*GOOD[:row], value, *GOOD[row + 1 :]]], 1)
    assert fault(two, np.float32) == said


def test_float16_rounds_a_long_sum_by_no_more_than_is_allowed() -> None:
    tokens = 1025
    rows, counts = [np.full(n, 1 / n) for n in range(1, tokens + 1)], np.array([tokens * (tokens + 1) // 2])
    assert fault(np.concatenate(rows), counts=counts) is None
    rows[-1] = rows[-1] * 1.002
    assert str(fault(np.concatenate(rows), counts=counts)).startswith("token 1024 of sample 0 of the shard pays 1.00")
