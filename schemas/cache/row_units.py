"""What a row of an array stands for, and how many of them a sample has.

samples   one per sample
tokens    one per token
kept      one per token that has rows, by `states.rows`
pairs     one per pair of a token that attends and one that it may attend to, in the order of the first and then of the
          second: in a causal model, which looks back alone, T (T + 1) / 2 of T tokens, and else T * T

Shapes: S samples, T tokens of one, P pairs of one, H heads.
"""

from collections.abc import Sequence
from math import isqrt
from typing import Any, Literal

import numpy as np

Rows = Literal["tokens", "samples", "pairs"]
Unit = Literal["samples", "tokens", "kept", "pairs"]


def count_rows_by_unit(
    tokens_S: Sequence[int] | np.ndarray, kept_S: Sequence[int] | np.ndarray, causal: bool
) -> dict[Unit, np.ndarray]:
    """[S] int64 of each unit, of samples of so many tokens, of which so many are kept."""
    tokens = np.asarray(tokens_S, np.int64)
    return {
        "samples": np.ones(len(tokens), np.int64),
        "tokens": tokens,
        "kept": np.asarray(kept_S, np.int64),
        "pairs": count_pairs(tokens, causal),
    }


def count_pairs(tokens: Any, causal: bool) -> Any:
    """P of T, of a number or of an array of them."""
    return tokens * (tokens + 1) // 2 if causal else tokens * tokens


def count_queries(pairs: int, causal: bool) -> int:
    """T of P. Raises ValueError for a number of pairs that no text has."""
    tokens = (isqrt(8 * pairs + 1) - 1) // 2 if causal else isqrt(pairs)
    if count_pairs(tokens, causal) != pairs:
        raise ValueError(f"{pairs:,} pairs are not those of a text")
    return tokens


def query_starts(tokens: int, causal: bool) -> np.ndarray:
    """[T] int64: the first pair of each token that attends."""
    place = np.arange(tokens)
    return place * (place + 1) // 2 if causal else place * tokens


def as_square(values: Any, causal: bool) -> np.ndarray:
    """[T, T] or [T, T, H] of the rows [P] or [P, H] of one sample: who attends, to whom; 0 for what is not kept."""
    values = np.asarray(values)
    tokens = count_queries(len(values), causal)
    if not causal:
        return np.asarray(values.reshape(tokens, tokens, *values.shape[1:]))
    square = np.zeros((tokens, tokens, *values.shape[1:]), values.dtype)
    square[np.tril_indices(tokens)] = values
    return square
