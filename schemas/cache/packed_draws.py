"""Random next tokens as a multiset: every distinct id once, and how often it was drawn.

A row of n draws, u of them distinct, is a string of bytes:

    ceil(n / 8)   of the draws, sorted, a bit each: set where the run of an id ends. So u bits are set
    packed_bytes  the distinct ids, ascending, by Elias-Fano (see packed_ids)
    4 + 2 u       where draws do not weigh alike: the largest weight of a draw in float32, and that of each id as a
                  share of it in float16

50 draws of 262,144 tokens, 18 of them distinct, take 43 bytes, where ids and weights side by side take 400.

Shapes: N rows, n draws, u distinct ids of a row, U of the row with most.
"""

import numpy as np

from schemas.cache.packed_ids import pack_ids, packed_bytes, unpack_ids
from schemas.cache.ragged import RaggedRows
from schemas.errors import CacheError

NOT_ROWS = "packed draws are not rows of {} draws"


def row_bytes(distinct: int, draws: int, vocabulary: int, weighted: bool) -> int:
    """The bytes of a row that holds so many distinct ids, at least one."""
    return _run_bytes(draws) + packed_bytes(distinct, vocabulary) + (4 + 2 * distinct if weighted else 0)


def _run_bytes(draws: int) -> int:
    return -(-draws // 8)


def pack_draws(ids_Nn: np.ndarray, vocabulary: int, weights_Nn: np.ndarray | None) -> RaggedRows:
    """The rows.

    `weights_Nn` are those of one draw each, the same wherever a row repeats an id; None where all weigh 1 / n. Raises
    ValueError for ids outside the vocabulary.
    """
    order_Nn = np.argsort(ids_Nn, axis=1, kind="stable")
    ids_Nn = np.take_along_axis(ids_Nn, order_Nn, 1)
    ends_Nn = np.ones(ids_Nn.shape, bool)
    ends_Nn[:, :-1] = np.diff(ids_Nn) > 0
    distinct_N = ends_Nn.sum(1)
    size_N = _sizes(distinct_N, ids_Nn.shape[1], vocabulary, weights_Nn is not None)
    start_N = size_N.cumsum() - size_N
    data = np.empty(int(size_N.sum()), np.uint8)
    for distinct in np.unique(distinct_N).tolist():
        some = np.flatnonzero(distinct_N == distinct)
        ends = ends_Nn[some]
        parts = [np.packbits(ends, axis=1, bitorder="little")]
        parts.append(pack_ids(ids_Nn[some][ends].reshape(-1, distinct), vocabulary))
        if weights_Nn is not None:
            sorted_weights = np.take_along_axis(weights_Nn[some], order_Nn[some], 1)
            parts.append(_pack_weights(sorted_weights[ends].reshape(-1, distinct)))
        data[start_N[some][:, None] + np.arange(size_N[some[0]])] = np.concatenate(parts, 1)
    return RaggedRows.of(data, size_N)


def unpack_draws(rows: RaggedRows, draws: int, vocabulary: int, weighted: bool) -> tuple[np.ndarray, np.ndarray]:
    """Ids [N, U] int32, ascending, and weights [N, U] float32, sum_i weight_i f(id_i) estimating E[f].

    Beyond a row's own distinct ids, both are 0. Raises CacheError for bytes that are not such rows.
    """
    start_N = rows.bounds[:-1]
    if len(rows) and int(rows.sizes.min()) < _run_bytes(draws):
        raise CacheError(NOT_ROWS.format(draws))
    runs = rows.data[start_N[:, None] + np.arange(_run_bytes(draws))]
    ends_Nn = np.unpackbits(runs, axis=1, count=draws, bitorder="little")
    distinct_N = ends_Nn.sum(1, dtype=np.int64)
    if not (ends_Nn[:, -1:].all() and np.array_equal(_sizes(distinct_N, draws, vocabulary, weighted), rows.sizes)):
        raise CacheError(NOT_ROWS.format(draws))
    most = int(distinct_N.max(initial=0))
    ids_NU, weights_NU = np.zeros((len(rows), most), np.int32), np.zeros((len(rows), most), np.float32)
    for distinct in np.unique(distinct_N).tolist():
        some = np.flatnonzero(distinct_N == distinct)
        bytes_Nx = rows.data[start_N[some][:, None] + np.arange(_run_bytes(draws), rows.sizes[some[0]])]
        ids, weights = np.split(bytes_Nx, [packed_bytes(distinct, vocabulary)], axis=1)
        ids_NU[some, :distinct] = unpack_ids(ids, distinct, vocabulary)
        counts = np.diff(ends_Nn[some].nonzero()[1].reshape(-1, distinct), axis=1, prepend=-1)
        weights_NU[some, :distinct] = counts * (_unpack_weights(weights) if weighted else 1 / draws)
    return ids_NU, weights_NU


def _sizes(distinct_N: np.ndarray, draws: int, vocabulary: int, weighted: bool) -> np.ndarray:
    """[N] int64: the bytes of rows that hold so many distinct ids."""
    sizes = np.zeros(draws + 1, np.int64)
    for distinct in np.unique(distinct_N).tolist():
        sizes[distinct] = row_bytes(distinct, draws, vocabulary, weighted) if distinct else 0
    return np.asarray(sizes[distinct_N])


def _pack_weights(weights_Nu: np.ndarray) -> np.ndarray:
    """[N, 4 + 2 u] uint8: the largest, and shares of it, which float16 holds to 1 in 2,000 whatever their size."""
    largest_N1 = weights_Nu.max(1, keepdims=True).astype("<f4")
    shares_Nu = np.divide(weights_Nu, largest_N1, where=largest_N1 > 0, out=np.zeros_like(weights_Nu))
    return np.concatenate([largest_N1.view(np.uint8), shares_Nu.astype("<f2").view(np.uint8)], 1)


def _unpack_weights(bytes_Nx: np.ndarray) -> np.ndarray:
    """[N, u] float32."""
    largest_N1, shares_Nu = bytes_Nx[:, :4].copy().view("<f4"), bytes_Nx[:, 4:].copy().view("<f2")
    weights_Nu: np.ndarray = largest_N1 * shares_Nu.astype(np.float32)
    return weights_Nu
