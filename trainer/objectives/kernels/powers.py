"""Softmax over rows of logits as powers of two that are not divided by their sum.

A power of two takes half the time of one of e on a CPU, and whoever multiplies a softmax with a number per row divides
by the sum in the same pass. That sum also normalises the logarithm, so nothing is read once more for it.

Shapes: n rows, N columns.
"""

import math
from typing import NamedTuple, Self

import torch
from torch import Tensor

LN2 = math.log(2)


class Powers(NamedTuple):
    """softmax(z / tau) of each row is power / sum, where power = 2^(factor bits) and bits = (z - max z) / (tau ln 2).

    Rounding moves the bits of a whole row alike, which the sum takes back, and beyond that costs as many digits as the
    logits themselves have.
    """

    bits_nN: Tensor
    power_nN: Tensor
    sum_n1: Tensor
    factor: int = 1

    @classmethod
    def of(cls, logits_nN: Tensor, temperature: float = 1.0, out: Tensor | None = None) -> Self:
        """`out` is where the bits are written, such as over the logits."""
        scale = 1 / (temperature * LN2)
        bits_nN = torch.add(logits_nN.amax(-1, keepdim=True) * -scale, logits_nN, alpha=scale, out=out)
        power_nN = bits_nN.exp2()
        return cls(bits_nN, power_nN, power_nN.sum(-1, keepdim=True))

    def squared(self) -> Self:
        """Those of half the temperature, for a fifth of the work. Overwrites the powers."""
        power_nN = self.power_nN.square_()
        return type(self)(self.bits_nN, power_nN, power_nN.sum(-1, keepdim=True), 2 * self.factor)

    def surprise(self, column_n1: Tensor) -> Tensor:
        """-log softmax at one column of each row, [n], in nats. From bits to nats in float64: the bits are rounded, and
        a second rounding would be seen."""
        bits_n1 = self.sum_n1.double().log2() - self.factor * self.bits_nN.gather(1, column_n1).double()
        return (LN2 * bits_n1[:, 0]).to(self.sum_n1.dtype)
