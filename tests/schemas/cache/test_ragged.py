"""Rows of bytes: every slice is the rows that a list of them would give, whatever their number and sizes."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from schemas.cache.ragged import LONGEST, STRIDE, RaggedArray, RaggedRows, concatenate, make_starts
from schemas.errors import CacheError
from tests.ragged import LISTS, listed, ragged


def mapped(rows: RaggedRows) -> RaggedArray:
    return RaggedArray(rows.data, rows.sizes, make_starts(rows.sizes))


@given(LISTS, st.data())
def test_slices_are_those_of_a_list(rows: list[bytes], data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(rows)))
    end = data.draw(st.integers(start, len(rows)))
    own = ragged(rows)
    array = mapped(own)
    assert len(own) == len(array) == len(rows)
    for found in (own[start:end], array[start:end], array.rows(start, end - start)):
        assert listed(found) == rows[start:end] and len(found.data) == int(found.sizes.sum())
    begin, stop = array.extent(start, end - start)
    assert own.data[begin:stop].tobytes() == b"".join(rows[start:end])
    assert listed(own[:end]) == rows[:end] and listed(own[start:]) == rows[start:]
    assert np.shares_memory(own[start:end].sizes, own.sizes) == (start < end)


@given(st.lists(LISTS, max_size=4))
def test_rows_of_several_samples_are_one_after_the_other(samples: list[list[bytes]]) -> None:
    found = concatenate([ragged(rows) for rows in samples])
    assert listed(found) == [row for rows in samples for row in rows]
    assert found.data.dtype == np.uint8 and found.sizes.dtype == np.dtype("<u2")


@given(LISTS)
def test_starts_are_those_of_every_64th_row_and_the_end(rows: list[bytes]) -> None:
    bounds = ragged(rows).bounds
    starts = make_starts(ragged(rows).sizes)
    assert starts.dtype == np.dtype("<i8") and len(starts) == -(-len(rows) // STRIDE) + 1
    assert starts.tolist() == [*bounds[:-1:STRIDE].tolist(), bounds[-1]]
    mapped(ragged(rows)).check(Path("here"))


def test_starts_that_contradict_the_sizes_are_named() -> None:
    rows = ragged([b"x"] * 70)
    for starts in ([0, 63, 70], [0, 64, 71], [1, 64, 70], [0, 70]):
        with pytest.raises(CacheError) as refused:
            RaggedArray(rows.data, rows.sizes, np.array(starts, "<i8")).check(Path("here"))
        assert str(refused.value) == (
            "here: the sizes of its rows contradict where they start; run `stillroom repair here`: "
            "it drops damaged shards that can be made again, and says how"
        )


def test_a_row_is_as_long_as_its_size_can_say() -> None:
    assert RaggedRows.of(np.zeros(LONGEST, np.uint8), np.array([LONGEST])).sizes.tolist() == [65_535]
    with pytest.raises(ValueError) as refused:
        RaggedRows.of(np.zeros(LONGEST + 1, np.uint8), np.array([0, LONGEST + 1]))
    assert str(refused.value) == "row 1 has 65,536 bytes; a row holds 65,535"


def test_sums_of_sizes_do_not_overflow() -> None:
    """Sixty-four of the longest rows are beyond 16 bits, and sixty-five thousand beyond 32."""
    sizes = np.full(130, LONGEST, "<u2")
    array = RaggedArray(np.zeros(130 * LONGEST, np.uint8), sizes, make_starts(sizes))
    assert array.extent(127, 2) == (127 * LONGEST, 129 * LONGEST)
    assert make_starts(np.full(65_600, LONGEST, "<u2"))[-1] == 65_600 * LONGEST


@pytest.mark.filterwarnings("error")
def test_torch_takes_slices_without_a_warning() -> None:
    found = mapped(ragged([b"ab", b"", b"cde"]))[1:3]
    assert torch.from_numpy(found.data).tolist() == [99, 100, 101]
    assert torch.from_numpy(found.sizes).tolist() == [0, 3]
