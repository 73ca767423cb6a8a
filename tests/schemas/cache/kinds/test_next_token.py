"""What `verify` asks of stored next-token distributions, entry by entry."""

from typing import Any

import numpy as np
import pytest

from schemas.cache.arrays import StoredStates
from schemas.cache.kinds import sampled, top_k
from schemas.cache.kinds.next_token import NO_TAIL, NextToken, SparseRecord
from schemas.cache.packed_ids import pack_ids
from schemas.cache.ragged import RaggedRows, concatenate
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


PLAIN = [
    (top_k.KIND, SparseRecord(temperature=1.0, entries=3), (IDS, LOGPROBS)),
    (sampled.KIND, SparseRecord(temperature=1.0, entries=3, proposal=0.5), (IDS, WEIGHTS)),
    (sampled.KIND, SparseRecord(temperature=1.0, entries=3, proposal=1.0), (IDS, np.full((2, 3), 1 / 3, np.float32))),
]
NAMES = ["top_k", "weighted", "sampled"]


@pytest.mark.parametrize(("kind", "record", "plain"), PLAIN, ids=NAMES)
def test_arrays_are_those_that_the_record_says(
    kind: NextToken[Any], record: SparseRecord, plain: tuple[np.ndarray, np.ndarray]
) -> None:
    """Of this format or of format 1, and not some of both."""
    packed, former = kind.packed_arrays(record, TEACHER), kind.plain_arrays(record, 2)
    assert [array.kind.partition("/")[2] for array in packed] == list(kind.parts)
    assert [(array.width, array.dtype) for array in former] == [(3, "int32"), (3 + kind.tail, "float32")]
    for arrays in (packed, former):
        kind.require_consistent(record, arrays)
        wider = record.model_copy(update={"entries": 4})
        for others, said in ((arrays[:-1], record), (arrays, wider), ([*arrays, arrays[-1]], record)):
            with pytest.raises(ValueError, match=rf"^the arrays of {kind.name} \(.*\) are not those of [34] entries"):
                kind.require_consistent(said, others)
    with pytest.raises(ValueError, match="are not those of 3 entries; extract again"):
        kind.require_consistent(record, [*former, *packed])


def test_what_is_not_there_is_named() -> None:
    with pytest.raises(ValueError) as refused:
        top_k.KIND.require_consistent(SparseRecord(temperature=1.0, entries=3), [])
    assert str(refused.value) == "the arrays of top_k (none) are not those of 3 entries; extract again"
    draws = sampled.KIND.packed_arrays(SparseRecord(temperature=1.0, entries=3, proposal=1.0), TEACHER)
    with pytest.raises(ValueError) as refused:
        sampled.KIND.require_consistent(SparseRecord(temperature=1.0, entries=3, proposal=0.5), draws)
    assert str(refused.value) == (
        "the arrays of sampled (sampled/draws of 3 uint8) are not those of 3 entries; extract again"
    )


@pytest.mark.parametrize(("kind", "record", "plain"), PLAIN, ids=NAMES)
def test_packed_rows_are_the_plain_ones_by_ascending_id(
    kind: NextToken[Any], record: SparseRecord, plain: tuple[np.ndarray, np.ndarray]
) -> None:
    ids, values = plain
    packed = kind.pack(ids, values, record, TEACHER)
    found_ids, found_values = kind.unpack(packed, record, TEACHER)
    order = np.argsort(ids, axis=1)
    np.testing.assert_array_equal(found_ids, np.take_along_axis(ids, order, 1))
    sorted_values = np.concatenate([np.take_along_axis(values, order, 1), values[:, 3:]], 1)
    np.testing.assert_allclose(found_values, sorted_values, atol=0.005, rtol=5e-4)
    for found, wanted in zip(kind.unpack(plain, record, TEACHER), plain, strict=True):
        assert found is wanted
    assert kind.find_fault(StoredStates(tuple(packed), np.array([2]), TEACHER, record)) is None


@pytest.mark.parametrize(("kind", "record", "plain"), PLAIN, ids=NAMES)
def test_each_rows_bytes_depend_on_that_row_alone(
    kind: NextToken[Any], record: SparseRecord, plain: tuple[np.ndarray, np.ndarray]
) -> None:
    whole = kind.pack(*plain, record, TEACHER)
    rows = [kind.pack(plain[0][row], plain[1][row], record, TEACHER) for row in (slice(0, 1), slice(1, 2))]
    for values, first, second in zip(whole, *rows, strict=True):
        if isinstance(values, np.ndarray):
            np.testing.assert_array_equal(values, np.concatenate([first, second]))
        else:
            assert isinstance(first, RaggedRows) and isinstance(second, RaggedRows)
            np.testing.assert_array_equal(values.data, concatenate([first, second]).data)


def test_faults_of_packed_rows_are_named() -> None:
    record = SparseRecord(temperature=1.0, entries=3)
    ids, codes, scales = top_k.KIND.pack(IDS, LOGPROBS, record, TEACHER)

    def said(*values: Any) -> str | None:
        return top_k.KIND.find_fault(StoredStates(values, np.array([2]), TEACHER, record))

    twice = np.concatenate([ids[:1], pack_ids(np.array([[2, 2, 4]]), 8)])
    assert said(twice, codes, scales) == NOT
    damaged = np.concatenate([ids[:1], np.zeros_like(ids[1:])])
    assert said(damaged, codes, scales) == ("rows 0 to 1: packed ids are not rows of 3 of 8 tokens")
    assert said(ids, codes, scales * np.array([[1], [-1]], np.float16)) == NOT
    assert said(ids, np.maximum(codes, np.array([[0], [1]], np.uint8)), scales) == NOT
    drawn = SparseRecord(temperature=1.0, entries=3, proposal=0.5)
    (rows,) = sampled.KIND.pack(IDS, WEIGHTS, drawn, TEACHER)
    rows.data[-2:] = np.frombuffer(np.array([np.inf], "<f2").tobytes(), np.uint8)
    assert sampled.KIND.find_fault(StoredStates((rows,), np.array([2]), TEACHER, drawn)) == NOT
