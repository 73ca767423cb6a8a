"""Rows of token ids in about the bits that they need: Elias-Fano codes.

A row of n ids below V, ascending, repeats allowed. Of each id the low l = floor(log2(V / n)) bits are written as they
are, and the rest in unary: the i-th id sets bit (id >> l) + i of the bits that follow. That is n (2 + l) bits or a few
more: 92 bytes for 64 of 49,152 tokens, where int32 takes 256. All rows of one n have one length.

Shapes: N rows, n ids.
"""

import numpy as np

from schemas.errors import CacheError

ROWS_AT_ONCE = 4096  # their bits take a byte each while they are packed


def _low_bits(count: int, vocabulary: int) -> int:
    return max(0, (vocabulary // count).bit_length() - 1)


def packed_bytes(count: int, vocabulary: int) -> int:
    """The bytes of a row of `count` ids, at least one."""
    low = _low_bits(count, vocabulary)
    return -(-(count * low + count + ((vocabulary - 1) >> low)) // 8)


def pack_ids(ids_Nn: np.ndarray, vocabulary: int) -> np.ndarray:
    """[N, packed_bytes] uint8. Raises ValueError for ids that descend, or lie outside the vocabulary."""
    rows, count = ids_Nn.shape
    if rows and ((np.diff(ids_Nn) < 0).any() or ids_Nn.min() < 0 or ids_Nn.max() >= vocabulary):
        raise ValueError(f"the ids of a row do not ascend within a vocabulary of {vocabulary}")
    packed = np.empty((rows, packed_bytes(count, vocabulary)), np.uint8)
    for start in range(0, rows, ROWS_AT_ONCE):
        some = slice(start, start + ROWS_AT_ONCE)
        packed[some] = _pack(ids_Nn[some].astype(np.int32), vocabulary)
    return packed


def _pack(ids_Nn: np.ndarray, vocabulary: int) -> np.ndarray:
    rows, count = ids_Nn.shape
    low = _low_bits(count, vocabulary)
    bits = np.zeros((rows, 8 * packed_bytes(count, vocabulary)), np.uint8)
    for place in range(low):
        bits[:, place : count * low : low] = (ids_Nn >> place) & 1
    np.put_along_axis(bits, count * low + (ids_Nn >> low) + np.arange(count), 1, axis=1)
    return np.packbits(bits, axis=1, bitorder="little")


def unpack_ids(packed: np.ndarray, count: int, vocabulary: int) -> np.ndarray:
    """[N, count] int32, ascending, of [N, packed_bytes]. Raises CacheError for bytes that are not such rows."""
    low = _low_bits(count, vocabulary)
    if packed.shape[1] != packed_bytes(count, vocabulary):
        raise _not_rows(count, vocabulary)
    first, skipped = divmod(count * low, 8)
    unary = np.unpackbits(packed[:, first:], axis=1, bitorder="little")[:, skipped:]
    if (unary.sum(1) != count).any():
        raise _not_rows(count, vocabulary)
    ones_Nn = np.flatnonzero(unary).reshape(len(packed), count)
    ones_Nn -= np.arange(len(packed))[:, None] * unary.shape[1] + np.arange(count)
    return np.asarray((ones_Nn << low).astype(np.int32) | _unpack_low(packed, count, low))


def _unpack_low(packed: np.ndarray, count: int, low: int) -> np.ndarray:
    """[N, count] int32: `low` bits each, one after the other, at most 31. They lie within five bytes."""
    place = np.arange(count) * low
    found = np.zeros((len(packed), count), np.int64)
    for byte in range(-(-(low + 7) // 8) if low else 0):
        # Behind the last byte of a row, whatever stands there is masked away.
        column = np.minimum(place // 8 + byte, packed.shape[1] - 1)
        found |= packed[:, column].astype(np.int64) << (8 * byte)
    return ((found >> (place % 8)) & ((1 << low) - 1)).astype(np.int32)


def _not_rows(count: int, vocabulary: int) -> CacheError:
    return CacheError(f"packed ids are not rows of {count} of {vocabulary} tokens")
