"""Rows as wide as a vocabulary: the numbers of a plain product, each row at the beginning of a line of memory."""

import pytest
import torch

from schemas.models.aligned_rows import COLUMNS, LINE, cast_rows, empty_rows, head_product, rows_without_gaps

DTYPES = [torch.bfloat16, torch.float32, torch.float64]


@pytest.mark.parametrize("width", [1, 31, 64, 257, COLUMNS, 2 * COLUMNS + 77])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_product_is_that_of_whole_numbers(dtype: torch.dtype, bias: bool, width: int) -> None:
    g = torch.Generator().manual_seed(0)  # sums of small integers, which every dtype holds exactly
    hidden_nd, weight_Vd = torch.randint(-2, 3, (5, 12), generator=g), torch.randint(-2, 3, (width, 12), generator=g)
    bias_V = torch.randint(-9, 9, (width,), generator=g) if bias else None
    found = head_product(hidden_nd.to(dtype), weight_Vd.to(dtype), None if bias_V is None else bias_V.to(dtype))
    wanted = (hidden_nd[:, None] * weight_Vd).sum(-1) + (0 if bias_V is None else bias_V)
    assert found.dtype == dtype and torch.equal(found.long(), wanted)
    assert found.stride(0) * dtype.itemsize % LINE == 0 and found.stride(1) == 1


@pytest.mark.parametrize("leading", [(), (0,), (2, 0), (2, 3), (2, 1, 3)], ids=str)
@pytest.mark.parametrize("width", [64, COLUMNS + 33])
def test_states_have_any_leading_axes(leading: tuple[int, ...], width: int) -> None:
    g = torch.Generator().manual_seed(0)
    hidden, weight_Vd = torch.randn(*leading, 12, generator=g), torch.randn(width, 12, generator=g)
    wanted = (hidden.double()[..., None, :] * weight_Vd.double()).sum(-1)
    torch.testing.assert_close(head_product(hidden, weight_Vd, None).double(), wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_rows_are_as_many_lines_as_they_need(dtype: torch.dtype) -> None:
    rows_nV = empty_rows(torch.Size([3, 33]), dtype, torch.device("cpu"))
    assert rows_nV.shape == (3, 33)
    assert rows_nV.stride(0) * dtype.itemsize == -(-33 * dtype.itemsize // LINE) * LINE


def test_a_cast_keeps_the_numbers_and_copies_nothing_of_the_same_dtype() -> None:
    rows_nV = torch.arange(66.0).view(2, 33)
    assert cast_rows(rows_nV, torch.float32) is rows_nV
    cast = cast_rows(rows_nV, torch.bfloat16)
    assert torch.equal(cast, rows_nV.bfloat16())
    assert cast.stride(0) * 2 % LINE == 0


def test_rows_with_gaps_are_copied_and_others_are_as_they_lie() -> None:
    rows_nV = torch.arange(12.0).view(3, 4)
    for without in (rows_nV, rows_nV[:, 1:3], rows_nV[:1].expand(3, 4)):
        assert rows_without_gaps(without) is without
    for gaps in (rows_nV.T, rows_nV[:, ::2], rows_nV[:, :1].expand(3, 4)):
        copied = rows_without_gaps(gaps)
        assert torch.equal(copied, gaps) and copied.stride(1) == 1
