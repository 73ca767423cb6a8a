"""How far top-k rows and states lie from those that are true. Shapes: N rows, d their width, k entries of one.

A distance is a share: of the size of a state, or of all the probability of a distribution.
"""

from collections.abc import Set as AbstractSet

import numpy as np

TINY = 1e-300
_Row = tuple[dict[int, float], float]  # shares by id, and that of all other ids


def between_states(found_Nd: np.ndarray, wanted_Nd: np.ndarray) -> np.ndarray:
    """[N]: the length of the difference by the length of the wanted row."""
    gap_N = np.linalg.norm(found_Nd - wanted_Nd, axis=1)
    return np.asarray(gap_N / np.maximum(np.linalg.norm(wanted_Nd, axis=1), TINY))


def between_likeliest(found: tuple[np.ndarray, np.ndarray], wanted: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """[N]: the total variation between two rows of ids [N, k] and log-probabilities [N, k + 1], the tail's last.

    A token that one row lists and the other does not lies in the other's tail: there it may have up to the smallest
    share that is listed. Where two tokens are alike, rounding chooses which of them is listed.
    """
    rows = [_distance(*pair) for pair in zip(_rows(*found), _rows(*wanted), strict=True)]
    return np.array(rows, np.float64)


def _rows(ids_Nk: np.ndarray, logprobs_NE: np.ndarray) -> list[_Row]:
    shares_NE = np.exp(logprobs_NE.astype(np.float64))
    pairs = zip(ids_Nk.tolist(), shares_NE.tolist(), strict=True)
    return [(dict(zip(ids, shares[:-1], strict=True)), shares[-1]) for ids, shares in pairs]


def _distance(found: _Row, wanted: _Row) -> float:
    names = found[0].keys() | wanted[0].keys()
    (left, left_tail), (right, right_tail) = _complete(names, found, wanted), _complete(names, wanted, found)
    return (sum(abs(left[name] - right[name]) for name in names) + abs(left_tail - right_tail)) / 2


def _complete(names: AbstractSet[int], own: _Row, other: _Row) -> _Row:
    """A row with all `names`: what is lent to those that it does not list is taken off its tail."""
    shares, tail = own
    least = min(shares.values())
    lent = {name: min(other[0][name], least) for name in names - shares.keys()}
    return shares | lent, tail - sum(lent.values())
