"""What `verify` asks of token masses: none negative, and 1 in sum over every sample."""

import numpy as np
import pytest

from schemas.cache.arrays import StoredStates
from schemas.cache.kinds.mass import KIND
from schemas.cache.teacher import TeacherRecord

TEACHER = TeacherRecord(model="m", kind="causal", num_layers=2, hidden_size=4, vocab_size=8, max_tokens=16)
COUNTS = np.array([2, 0, 3, 1])
GOOD = [0.25, 0.75, 0.5, 0.0, 0.5, 1.0]


def fault(masses: list[float], counts: np.ndarray = COUNTS) -> str | None:
    return KIND.find_fault(StoredStates((np.array(masses, np.float32),), counts, TEACHER, None))


def test_sound_masses_have_no_fault() -> None:
    assert fault(GOOD) is None
    assert fault([0.25, 0.75 + 5e-5, *GOOD[2:]]) is None  # a sum of float32
    assert fault([], np.zeros(2, np.int64)) is None and fault([], np.zeros(0, np.int64)) is None


@pytest.mark.parametrize(
    ("row", "value", "said"),
    [
        (3, -0.1, "row 3 is a negative mass"),
        (1, 0.7505, r"the masses of sample 0 of the shard sum to 1.0005, not to 1"),
        (4, 0.25, r"the masses of sample 2 of the shard sum to 0.75, not to 1"),
        (5, 0.0, r"the masses of sample 3 of the shard sum to 0, not to 1"),
    ],
)
def test_a_wrong_mass_is_named(row: int, value: float, said: str) -> None:
    assert fault([*GOOD[:row], value, *GOOD[row + 1 :]]) == said


def test_long_shards_are_read_in_blocks() -> None:
    masses = np.full(200_000, 1 / 400, np.float32)
    counts = np.full(500, 400)
    assert fault(masses.tolist(), counts) is None
    masses[150_001] = -1 / 400
    assert fault(masses.tolist(), counts) == "row 150001 is a negative mass"
