"""Matrices as wide as a vocabulary whose rows begin at whole lines of memory.

A vocabulary may have any size: GPT-2's is 50,257. A product into rows that follow one another without a gap then takes
1.3 times as long on a CPU, and a GPU's tensor cores cannot take or make them. The numbers are the same.

Shapes: n rows, V vocabulary, d wide.
"""

import torch
from torch import Tensor
from torch.nn.functional import linear

LINE = 64  # bytes


def empty_rows(shape_nV: torch.Size, dtype: torch.dtype, device: torch.device) -> Tensor:
    """[n, V], a view of wider rows where V numbers do not fill whole lines."""
    rows, width = shape_nV
    numbers = LINE // dtype.itemsize
    return torch.empty(rows, -(-width // numbers) * numbers, dtype=dtype, device=device)[:, :width]


def head_product(hidden_nd: Tensor, weight_Vd: Tensor, bias_V: Tensor | None) -> Tensor:
    """h W^T + b, [n, V], of one dtype; without gradient."""
    if len(weight_Vd) * weight_Vd.dtype.itemsize % LINE == 0:
        return linear(hidden_nd, weight_Vd, bias_V)
    shape_nV = torch.Size([len(hidden_nd), len(weight_Vd)])
    out_nV = empty_rows(shape_nV, weight_Vd.dtype, weight_Vd.device)
    if bias_V is None:
        return torch.mm(hidden_nd, weight_Vd.T, out=out_nV)
    return torch.addmm(bias_V, hidden_nd, weight_Vd.T, out=out_nV)


def rows_without_gaps(rows_nV: Tensor) -> Tensor:
    """The same, copied if the numbers of a row do not follow one another, as those of a transposed matrix."""
    return rows_nV if rows_nV.stride(1) == 1 else rows_nV.contiguous()


def cast_rows(rows_nV: Tensor, dtype: torch.dtype) -> Tensor:
    """The same numbers in another dtype, in such rows."""
    return rows_nV if rows_nV.dtype == dtype else empty_rows(rows_nV.shape, dtype, rows_nV.device).copy_(rows_nV)
