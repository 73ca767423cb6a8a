"""Rows of logits in as few passes over a GPU's memory as they take: one that reads, and one that reads and writes.

Every program of a kernel has one row. Its first pass finds what normalises the row, its second the value and the
gradient. A softmax is its largest logit and the sum of exponentials relative to that; sums are of float32, in an order
that the number of columns and BLOCK decide, so the same numbers give the same bits on every run. A temperature divides
what is relative to the largest: a row far from 0 would lose digits to it otherwise.

`fused` calls these, and imports this module only where Triton is.

Names: z student logits, x those that are compared, t the teacher's at a temperature, p = softmax(t), and
q = softmax(x factor) with a factor of 1 / temperature.
"""

import triton
import triton.language as tl

BLOCK = 4096  # columns that a program holds at once
WARPS = 8
LOWEST = tl.constexpr(-(2 - 2**-23) * 2.0**127)  # of finite numbers: a block may have none but -inf


@triton.jit
def kl_rows(
    z_rows, z_stride, t_rows, t_stride, scale, kl, label, entropy_scale, nll, out, out_stride, factor, V, N,
    HAS_ENTROPY: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """KL(p || q) of the first N columns, -log softmax(z)[label] of all V, and scale (q - p) + entropy_scale (softmax(z)
    - 1_label)."""
    row = tl.program_id(0).to(tl.int64)
    z_rows, t_rows, out = z_rows + row * z_stride, t_rows + row * t_stride, out + row * out_stride
    z_largest, z_sum = float("-inf"), 0.0
    x_largest, x_sum = float("-inf"), 0.0
    t_largest, t_sum = float("-inf"), 0.0
    for start in range(0, V, BLOCK):
        at = start + tl.arange(0, BLOCK)
        z = tl.load(z_rows + at, mask=at < V, other=0.0).to(tl.float32)
        t = tl.load(t_rows + at, mask=at < N, other=0.0)
        x_largest, x_sum = _more(x_largest, x_sum, z, at < N, factor)
        t_largest, t_sum = _more(t_largest, t_sum, t, at < N, 1.0)
        if HAS_ENTROPY:
            z_largest, z_sum = _more(z_largest, z_sum, z, at < V, 1.0)
    scale_here = tl.load(scale + row)
    label_here, entropy_here = 0, 0.0
    if HAS_ENTROPY:
        label_here, entropy_here = tl.load(label + row), tl.load(entropy_scale + row)
        tl.store(nll + row, tl.log(z_sum) - (_logit(z_rows, label_here, V) - z_largest))
        tl.debug_barrier()  # the label's logit may be written over from here on
    x_share, t_share, z_share = 1 / x_sum, 1 / t_sum, 0.0
    kl_here = tl.log(x_sum * t_share)
    if HAS_ENTROPY:
        z_share = 1 / z_sum
    for start in range(0, V, BLOCK):
        at = start + tl.arange(0, BLOCK)
        z = tl.load(z_rows + at, mask=at < V, other=float("-inf")).to(tl.float32)
        t = tl.load(t_rows + at, mask=at < N, other=0.0)
        part, gradient = _kl_part((z - x_largest) * factor, x_share, t - t_largest, t_share, at < N)
        kl_here += part
        gradient *= scale_here
        if HAS_ENTROPY:
            gradient += entropy_here * (tl.exp(z - z_largest) * z_share - tl.where(at == label_here, 1.0, 0.0))
        tl.store(out + at, gradient.to(out.dtype.element_ty), mask=at < V)
    tl.store(kl + row, kl_here)


@triton.jit
def pooled_kl_rows(
    z_rows, z_stride, first, share, ids, t_rows, t_stride, kl, factor, N, HAS_IDS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """KL(p || q) of weighted sums of rows of z, those from `first` of a program's row to `first` of the next, in the
    columns `ids`; and q - p, written over the teacher's."""
    row = tl.program_id(0).to(tl.int64)
    t_rows += row * t_stride
    begin, end = tl.load(first + row), tl.load(first + row + 1)
    x_largest, x_sum = float("-inf"), 0.0
    t_largest, t_sum = float("-inf"), 0.0
    for start in range(0, N, BLOCK):
        at = start + tl.arange(0, BLOCK)
        x = _pooled(z_rows, z_stride, begin, end, share, ids, at, at < N, HAS_IDS, BLOCK)
        t = tl.load(t_rows + at, mask=at < N, other=0.0)
        x_largest, x_sum = _more(x_largest, x_sum, x, at < N, factor)
        t_largest, t_sum = _more(t_largest, t_sum, t, at < N, 1.0)
    x_share, t_share = 1 / x_sum, 1 / t_sum
    kl_here = tl.log(x_sum * t_share)
    for start in range(0, N, BLOCK):
        at = start + tl.arange(0, BLOCK)
        x = _pooled(z_rows, z_stride, begin, end, share, ids, at, at < N, HAS_IDS, BLOCK)
        t = tl.load(t_rows + at, mask=at < N, other=0.0)
        part, gradient = _kl_part((x - x_largest) * factor, x_share, t - t_largest, t_share, at < N)
        kl_here += part
        tl.store(t_rows + at, gradient, mask=at < N)
    tl.store(kl + row, kl_here)


@triton.jit
def entropy_rows(
    z_rows, z_stride, label, entropy_scale, nll, other, other_stride, other_row, scale, column, out, out_stride, V,
    HAS_ENTROPY: tl.constexpr, HAS_OTHER: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """-log softmax(z)[label], and entropy_scale (softmax(z) - 1_label) + scale other[other_row, column], where `column`
    is -1 for a column that has none."""
    row = tl.program_id(0).to(tl.int64)
    z_rows, out = z_rows + row * z_stride, out + row * out_stride
    z_largest, z_sum = float("-inf"), 0.0
    label_here, entropy_here, scale_here, z_share = 0, 0.0, 0.0, 0.0
    if HAS_ENTROPY:
        for start in range(0, V, BLOCK):
            at = start + tl.arange(0, BLOCK)
            z = tl.load(z_rows + at, mask=at < V, other=0.0).to(tl.float32)
            z_largest, z_sum = _more(z_largest, z_sum, z, at < V, 1.0)
        label_here, entropy_here, z_share = tl.load(label + row), tl.load(entropy_scale + row), 1 / z_sum
        tl.store(nll + row, tl.log(z_sum) - (_logit(z_rows, label_here, V) - z_largest))
        tl.debug_barrier()  # the label's logit may be written over from here on
    if HAS_OTHER:
        other += tl.load(other_row + row) * other_stride
        scale_here = tl.load(scale + row)
    for start in range(0, V, BLOCK):
        at = start + tl.arange(0, BLOCK)
        gradient = tl.zeros([BLOCK], tl.float32)
        if HAS_ENTROPY:
            z = tl.load(z_rows + at, mask=at < V, other=float("-inf")).to(tl.float32)
            gradient = entropy_here * (tl.exp(z - z_largest) * z_share - tl.where(at == label_here, 1.0, 0.0))
        if HAS_OTHER:
            of_other = tl.load(column + at, mask=at < V, other=-1)
            gradient += scale_here * tl.load(other + of_other, mask=of_other >= 0, other=0.0)
        tl.store(out + at, gradient.to(out.dtype.element_ty), mask=at < V)


@triton.jit
def _more(largest, total, x, seen, factor):
    """A softmax's largest and its sum of exponentials, with a block more, as far as that is `seen`."""
    x = tl.where(seen, x, float("-inf"))
    now = tl.maximum(largest, tl.maximum(tl.max(x, 0), LOWEST))
    return now, total * tl.exp((largest - now) * factor) + tl.sum(tl.exp((x - now) * factor), 0)


@triton.jit
def _logit(z_rows, label, V):
    """The logit of a label, or not a number for one that is none: whoever counts it sees that it is wrong."""
    return tl.load(z_rows + label, mask=(label >= 0) & (label < V), other=float("nan")).to(tl.float32)


@triton.jit
def _kl_part(x, x_share, t, t_share, seen):
    """sum p (t - x) of a block, both relative to their largest; and q - p, 0 where nothing is `seen`. A share is what
    an exponential is multiplied with."""
    x, t = tl.where(seen, x, 0.0), tl.where(seen, t, 0.0)  # what is not seen could overflow
    p = tl.exp(t) * t_share
    return tl.sum(tl.where(seen, p * (t - x), 0.0), 0), tl.where(seen, tl.exp(x) * x_share - p, 0.0)


@triton.jit
def _pooled(z_rows, z_stride, begin, end, share, ids, at, seen, HAS_IDS: tl.constexpr, BLOCK: tl.constexpr):
    """The weighted sum of the rows `begin` to `end` - 1, in some columns."""
    column = at
    if HAS_IDS:
        column = tl.load(ids + at, mask=seen, other=0)
    total = tl.zeros([BLOCK], tl.float32)
    for member in range(begin, end):
        row = z_rows + member * z_stride
        total += tl.load(share + member) * tl.load(row + column, mask=seen, other=0.0).to(tl.float32)
    return total
