"""Packed draws: the same estimate of every sum as the draws themselves, in the bytes that the format says."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.cache.packed_draws import pack_draws, row_bytes, unpack_draws
from schemas.cache.packed_ids import pack_ids
from schemas.cache.ragged import RaggedRows
from schemas.errors import CacheError


def weights_of(ids: np.ndarray) -> np.ndarray:
    """The same for the same id of a row, and exact in float16."""
    return (1 + ids % 7) / 64


@settings(deadline=None)
@given(
    st.sampled_from([2, 50, 1000, 49_152, 262_144]),
    st.integers(1, 60),
    st.integers(0, 6),
    st.booleans(),
    st.integers(0, 2**32 - 1),
)
def test_every_sum_over_the_draws_comes_out_the_same(
    vocabulary: int, draws: int, rows: int, weighted: bool, seed: int
) -> None:
    random = np.random.default_rng(seed)
    ids = (random.random((rows, draws)) ** 6 * vocabulary).astype(np.int64)  # low ids often
    weights = weights_of(ids) if weighted else None
    packed = pack_draws(ids, vocabulary, weights)
    distinct = [len(set(row)) for row in ids.tolist()]
    assert packed.sizes.tolist() == [row_bytes(number, draws, vocabulary, weighted) for number in distinct]
    found_ids, found_weights = unpack_draws(packed, draws, vocabulary, weighted)
    assert found_ids.shape == found_weights.shape == (rows, max(distinct, default=0))
    assert found_ids.dtype == np.int32 and found_weights.dtype == np.float32
    for row in range(rows):
        wanted: dict[int, float] = {}
        for id_, weight in zip(
            ids[row].tolist(), (weights_of(ids)[row] if weighted else [1 / draws] * draws), strict=True
        ):
            wanted[id_] = wanted.get(id_, 0.0) + weight
        kept = distinct[row]
        assert found_ids[row, :kept].tolist() == sorted(wanted)
        sums = [wanted[id_] for id_ in sorted(wanted)]
        assert found_weights[row, :kept].tolist() == pytest.approx(sums, rel=5e-4 if weighted else 1e-6)
        assert not found_weights[row, kept:].any() and not found_ids[row, kept:].any()


def test_bytes_of_fifty_draws() -> None:
    assert [row_bytes(distinct, 50, 262_144, weighted=False) for distinct in (1, 18, 50)] == [10, 43, 97]
    assert [row_bytes(distinct, 50, 262_144, weighted=True) for distinct in (1, 18, 50)] == [16, 83, 201]


def test_a_row_as_the_format_writes_it() -> None:
    """Five draws of 32 tokens, 10 and 25 twice: runs end at draws 1, 3 and 4; then the ids, as packed_ids has them."""
    packed = pack_draws(np.array([[25, 10, 30, 10, 25]]), 32, None)
    assert packed.sizes.tolist() == [3]
    assert packed.data.tobytes() == bytes([0b11010]) + pack_ids(np.array([[10, 25, 30]]), 32).tobytes()
    weighted = pack_draws(np.array([[9, 7, 9]]), 32, np.array([[0.25, 1.0, 0.25]]))
    weights = np.array([1.0], "<f4").tobytes() + np.array([1.0, 0.25], "<f2").tobytes()
    assert weighted.data.tobytes() == bytes([0b101]) + pack_ids(np.array([[7, 9]]), 32).tobytes() + weights


def test_weights_of_any_size_keep_their_share() -> None:
    """The largest that a proposal can give and the smallest that float32 holds; a share below 6e-8 is nothing."""
    ids = np.array([[1, 2, 3], [1, 2, 3], [4, 4, 4], [5, 6, 7]])
    weights = np.array([[262_144.0, 1.0, 0.3], [1e-30, 3e-31, 1e-39], [0, 0, 0], [1.0, 1e-5, 1e-9]])
    _, found = unpack_draws(pack_draws(ids, 9, weights), 3, 9, weighted=True)
    np.testing.assert_allclose(found[0], weights[0], rtol=1 / 2000, atol=262_144 * 3e-8)
    np.testing.assert_allclose(found[1], weights[1], rtol=1 / 2000, atol=1e-30 * 3e-8)
    assert not found[2].any() and found[3].tolist() == [1.0, pytest.approx(1e-5, rel=3e-3), 0.0]


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(
    "change",
    [
        lambda rows: RaggedRows(rows.data[:-1], rows.sizes - np.array([0, 1], "<u2")),
        lambda rows: RaggedRows(np.zeros_like(rows.data), rows.sizes),
        lambda rows: RaggedRows(np.full_like(rows.data, 255), rows.sizes),
        lambda rows: RaggedRows(rows.data, rows.sizes[::-1].copy()),
        lambda rows: RaggedRows(rows.data[:0], np.zeros_like(rows.sizes)),
    ],
)
def test_other_bytes_are_refused(change: Callable[[RaggedRows], RaggedRows], weighted: bool) -> None:
    packed = pack_draws(np.array([[5, 5, 9], [1, 2, 3]]), 4096, np.ones((2, 3)) if weighted else None)
    with pytest.raises(CacheError, match=r"^packed (draws|ids) are not rows of "):
        unpack_draws(change(packed), 3, 4096, weighted)


def test_ids_outside_the_vocabulary_are_not_written() -> None:
    with pytest.raises(ValueError, match="do not ascend within a vocabulary of 9"):
        pack_draws(np.array([[1, 9]]), 9, None)
