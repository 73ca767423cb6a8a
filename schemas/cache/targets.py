"""Targets: the parts of a text that a student learns to predict, as ranges [start, end) of its characters.

A token belongs to the range in which it ends, start < end_of_token <= end, because tokenizers differ in who owns a
leading space. One that begins before a range and ends in it is so a target, with the characters that it holds.

Shapes: R ranges, T tokens, N spans.
"""

import numpy as np

NO_TARGETS = np.empty((0, 2), np.int32)


def response_targets(prompt_end: int, length: int) -> np.ndarray:
    """[R, 2] of a prompt and a response that ends the text: one range, or none where the response was cut away."""
    return np.array([[prompt_end, length]], np.int32) if prompt_end < length else NO_TARGETS


def range_of(ends_T: np.ndarray, targets_R2: np.ndarray) -> np.ndarray:
    """[T] int64: the number of the range that a token which ends at this character belongs to; -1 for none."""
    if not len(targets_R2):
        return np.full(len(ends_T), -1, np.int64)
    place_T = np.minimum(np.searchsorted(targets_R2[:, 1], ends_T), len(targets_R2) - 1)
    inside_T = (targets_R2[place_T, 0] < ends_T) & (ends_T <= targets_R2[place_T, 1])
    return np.where(inside_T, place_T, -1)


def clip_ranges(ranges_R2: np.ndarray, length: int) -> np.ndarray:
    """What of the ranges, which ascend, lies in a text that is cut at `length`; none of them is empty."""
    inside = ranges_R2[ranges_R2[:, 0] < length]
    clipped: np.ndarray = np.minimum(inside, np.int32(length))
    return clipped


def ends_inside(ends_T: np.ndarray, targets_R2: np.ndarray) -> np.ndarray:
    """[T] bool: a token that ends at this character belongs to a range."""
    inside: np.ndarray = range_of(ends_T, targets_R2) >= 0
    return inside


def lie_inside(spans_N2: np.ndarray, targets_R2: np.ndarray) -> np.ndarray:
    """[N] bool: every character of the span, which is not empty, belongs to one range."""
    if not len(targets_R2):
        return np.zeros(len(spans_N2), bool)
    place_N = np.minimum(np.searchsorted(targets_R2[:, 1], spans_N2[:, 1]), len(targets_R2) - 1)
    inside: np.ndarray = (targets_R2[place_N, 0] <= spans_N2[:, 0]) & (spans_N2[:, 1] <= targets_R2[place_N, 1])
    return inside
