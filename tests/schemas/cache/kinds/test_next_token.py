"""What `verify` asks of stored next-token distributions, entry by entry."""

from typing import Any

import numpy as np
import pytest

from schemas.cache.arrays import ArrayRecord, StoredStates
from schemas.cache.kinds import sampled, top_k
from schemas.cache.kinds.next_token import NO_TAIL, NextToken, SparseRecord
from schemas.cache.teacher import TeacherRecord

TEACHER = TeacherRecord(model="m", kind="causal", num_layers=2, hidden_size=4, vocab_size=8, max_tokens=16)
IDS = np.array([[7, 0, 3], [1, 2, 4]], np.int32)
LOGPROBS = np.log(np.array([[0.5, 0.25, 0.125, 0.125], [0.4, 0.3, 0.2, 0.1]], np.float32))
WEIGHTS = np.array([[0.5, 0.0, 0.4], [2.0, 0.1, 0.2]], np.float32)
NOT = "row 1 is not a distribution"


def fault(kind: NextToken[Any], ids: np.ndarray, values: np.ndarray) -> str | None:
    return kind.find_fault(StoredStates((ids, values), np.array([2]), TEACHER, None))


def changed(array: np.ndarray, value: float, column: int = 1) -> np.ndarray:
    copy = array.copy()
    copy[1, column] = value
    return copy


def test_sound_distributions_have_no_fault() -> None:
    assert fault(top_k.KIND, IDS, LOGPROBS) is None
    whole = np.array([[0.5, 0.25, 0.25, 0.0]], np.float32)
    with np.errstate(divide="ignore"):
        assert fault(top_k.KIND, IDS[:1], np.maximum(np.log(whole), NO_TAIL)) is None
    assert fault(sampled.KIND, changed(IDS, 1), WEIGHTS) is None  # a token drawn twice


@pytest.mark.parametrize("wrong", [-1, 8])
@pytest.mark.parametrize("kind", [top_k.KIND, sampled.KIND], ids=lambda kind: kind.name)
def test_ids_lie_within_the_vocabulary(kind: NextToken[Any], wrong: int) -> None:
    values = LOGPROBS if kind.name == "top_k" else WEIGHTS
    assert fault(kind, changed(IDS, wrong), values) == NOT
    assert fault(kind, changed(IDS, 7), values) is None


def test_what_makes_no_distribution() -> None:
    assert fault(top_k.KIND, changed(IDS, 4), LOGPROBS) == NOT  # a token twice
    assert fault(top_k.KIND, IDS, changed(LOGPROBS, np.log(0.3 + 2e-4))) == NOT
    assert fault(top_k.KIND, IDS, changed(LOGPROBS, np.log(0.3 + 5e-5))) is None
    assert fault(sampled.KIND, IDS, changed(WEIGHTS, -1e-6)) == NOT


@pytest.mark.parametrize(("kind", "columns"), [(top_k.KIND, 6), (sampled.KIND, 5)], ids=["top_k", "sampled"])
def test_columns_are_those_that_the_record_says(kind: NextToken[Any], columns: int) -> None:
    record = SparseRecord(temperature=1.0, entries=5)

    def arrays(ids: int, values: int) -> list[ArrayRecord]:
        names = zip(kind.array_kinds, (ids, values), ("int32", "float32"), strict=True)
        return [ArrayRecord(kind=name, layer=2, width=width, dtype=dtype) for name, width, dtype in names]

    kind.require_consistent(record, arrays(5, columns))
    for wrong in (arrays(4, columns), arrays(5, columns + 1), arrays(5, columns)[:1]):
        with pytest.raises(ValueError, match=r"should be one array of \d columns, not \[\d?\]; extract again"):
            kind.require_consistent(record, wrong)
