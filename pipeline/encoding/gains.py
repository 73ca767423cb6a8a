"""One byte per row for its size: an index into 256 levels that are learnt in the log domain.

What follows is encoded in units of the *decoded* gain, so that its rounding costs nothing.
"""

from torch import Tensor

from pipeline.encoding.codebook import nearest, train_codebook

LEAST = 1e-20  # of a row that is the mean itself


def train_gains(size_N: Tensor) -> Tensor:
    """256 levels, ascending, for sizes like these."""
    return train_codebook(size_N.clamp_min(LEAST).log()[:, None], seed=0)[:, 0].sort().values.exp()


def encode_gains(size_N: Tensor, gains: Tensor) -> Tensor:
    """[N] long: the level nearest to each size, by their ratio."""
    return nearest(size_N.clamp_min(LEAST).log()[:, None], gains.log()[:, None].to(size_N))


def sizes(rows_Nk: Tensor, deviation_k: Tensor | None) -> Tensor:
    """[N]: the root mean square of a row in units of each component's deviation; without deviations, its norm."""
    if deviation_k is None:
        return rows_Nk.square().sum(1).sqrt()
    return (rows_Nk / deviation_k.to(rows_Nk)).square().mean(1).sqrt()
