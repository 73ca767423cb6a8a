"""Log-probabilities of a few tokens in a byte each, and of all others together.

Each is written as its distance below the row's largest, in 255 steps down to the smallest; a row keeps the size of its
step. What they sum to need not be written: with the tail, the probabilities of a row are 1 in sum.

Shapes: N rows, k tokens.
"""

import numpy as np

from schemas.cache.kinds.next_token import NO_TAIL

STEPS = 255


def pack_logprobs(logprobs_Nk: np.ndarray, tail_N: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Codes [N, k] uint8, and [N, 2] float16: the row's step, and the tail's logarithm less the largest's."""
    largest_N1 = logprobs_Nk.max(1, keepdims=True)
    below_Nk = (largest_N1 - logprobs_Nk).astype(np.float64)
    step_N = (below_Nk.max(1) / STEPS).astype(np.float16)
    short_N = step_N.astype(np.float64) * STEPS < below_Nk.max(1)  # rounded down: the smallest would not be reached
    step_N = np.where(short_N, np.nextafter(step_N, np.float16(np.inf)), step_N)
    codes_Nk = np.rint(below_Nk / np.maximum(step_N.astype(np.float64), 1e-30)[:, None]).clip(0, STEPS)
    tail = np.clip(tail_N - largest_N1[:, 0], NO_TAIL, None)
    return codes_Nk.astype(np.uint8), np.stack([step_N, tail.astype(np.float16)], 1)


def unpack_logprobs(codes_Nk: np.ndarray, scales_N2: np.ndarray) -> np.ndarray:
    """[N, k + 1] float32: log-probabilities, the tail's last; their exponentials are 1 in sum."""
    step_N, tail_N = scales_N2.astype(np.float64).T
    below = np.concatenate([-step_N[:, None] * codes_Nk, tail_N[:, None]], 1)
    largest = below.max(1, keepdims=True)
    sums = np.exp(below - largest).sum(1, keepdims=True)
    return np.asarray(below - largest - np.log(sums), np.float32)
