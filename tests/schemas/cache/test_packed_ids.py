"""Packed ids: what goes in comes out, in no more bytes than the format says."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.cache.packed_ids import ROWS_AT_ONCE, pack_ids, packed_bytes, unpack_ids
from schemas.errors import CacheError

vocabularies = st.sampled_from([1, 2, 3, 255, 256, 257, 512, 49_152, 262_144, 2**31 - 1])


@settings(deadline=None)
@given(vocabularies, st.integers(1, 70), st.integers(0, 5), st.integers(0, 2**32 - 1))
def test_rows_come_back(vocabulary: int, count: int, rows: int, seed: int) -> None:
    ids = np.sort(np.random.default_rng(seed).integers(vocabulary, size=(rows, count)), axis=1)
    packed = pack_ids(ids, vocabulary)
    assert packed.dtype == np.uint8 and packed.shape == (rows, packed_bytes(count, vocabulary))
    found = unpack_ids(packed, count, vocabulary)
    assert found.dtype == np.int32
    np.testing.assert_array_equal(found, ids)


@pytest.mark.parametrize("ids", [[0, 0, 0], [48, 48, 49_151], [49_149, 49_150, 49_151]])
def test_the_ends_of_the_vocabulary_and_repeats(ids: list[int]) -> None:
    assert unpack_ids(pack_ids(np.array([ids]), 49_152), 3, 49_152).tolist() == [ids]


def test_a_row_as_the_format_writes_it() -> None:
    """Three ids of 32: l = floor(log2(32 / 3)) = 3 low bits each, then unary bits 1 + 0, 1 + 1 and 3 + 2."""
    bits = [0b010, 0b111, 0b001]  # of 10, 15 and 25
    unary = [0, 1, 1, 0, 0, 1]
    written = [(low >> place) & 1 for low in bits for place in range(3)] + unary
    wanted = sum(bit << place for place, bit in enumerate(written)).to_bytes(2, "little")
    assert pack_ids(np.array([[10, 15, 25]]), 32).tobytes() == wanted


@pytest.mark.parametrize(("count", "vocabulary", "most"), [(64, 49_152, 92), (64, 262_144, 112), (18, 262_144, 36)])
def test_bytes(count: int, vocabulary: int, most: int) -> None:
    assert packed_bytes(count, vocabulary) == most


@pytest.mark.parametrize("ids", [[2, 1], [-1, 0], [0, 9]])
def test_what_cannot_be_packed_is_refused(ids: list[int]) -> None:
    with pytest.raises(ValueError, match="do not ascend within a vocabulary of 9"):
        pack_ids(np.array([ids]), 9)


def test_many_rows_are_packed_some_at_a_time() -> None:
    ids = np.sort(np.random.default_rng(0).integers(49_152, size=(ROWS_AT_ONCE + 3, 5)), axis=1)
    packed = pack_ids(ids, 49_152)
    np.testing.assert_array_equal(unpack_ids(packed, 5, 49_152), ids)
    np.testing.assert_array_equal(packed[-2:], pack_ids(ids[-2:], 49_152))


def test_other_bytes_are_refused() -> None:
    packed = pack_ids(np.array([[1, 5, 200]]), 256)
    for wrong in (packed[:, :-1], np.zeros_like(packed), np.full_like(packed, 255)):
        with pytest.raises(CacheError, match=r"not rows of 3 of 256 tokens$"):
            unpack_ids(wrong, 3, 256)
