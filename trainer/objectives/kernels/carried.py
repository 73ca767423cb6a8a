"""Cross-entropy that comes along when another loss passes over the logits.

Alone it reads all logits twice and makes two more matrices of their shape. Carried, it costs one softmax of what lies
in the processor's cache anyway, and its gradient is added to the other loss's: two thirds of its time and all of its
memory are saved.

Both gradients go through the head as one, so their ratio is fixed when it is made. The objective hands both scales
down, and the backward pass refuses any others.

Shapes: X positions, V vocabulary; p positions of one block.
"""

from typing import NamedTuple, Self

import torch
from torch import Tensor

from trainer.student.logits import Logits


class Peak(NamedTuple):
    """Of each position the likeliest token's logit and log-probability, [p]: their difference is log Z."""

    logit_p: Tensor
    logp_p: Tensor

    @classmethod
    def of(cls, logits_pV: Tensor, softmax_pV: Tensor) -> Self:
        """The largest of each row."""
        return cls(logits_pV.amax(-1), softmax_pV.amax(-1).log())


class CarriedCrossEntropy:
    """-log softmax(z_x)[label_x], summed into `total` over the positions that have a label, block by block.

    `scale` is what the objective multiplies `total` with, `carrier_scale` what it multiplies a carrier's term with,
    the term's own weight aside.
    """

    def __init__(self, label_X: Tensor, wanted_X: Tensor, scale: float, carrier_scale: float, logits: Tensor | Logits):
        self.label_X, self.wanted_X = label_X, wanted_X
        self.scale, self.carrier_scale = scale, carrier_scale
        dtype = torch.promote_types(logits.dtype, torch.float32)
        self.total = torch.zeros((), dtype=dtype, device=logits.device)

    def add(self, positions: slice | Tensor, logits_pV: Tensor, gradient_pV: Tensor) -> None:
        """Adds the values of these positions, and scale * (softmax(z) - 1_label) to their gradient."""
        q_pV = logits_pV.softmax(-1)
        gradient_pV.addcmul_(q_pV, self.scale_of(positions))
        self.add_labels(positions, logits_pV, Peak.of(logits_pV, q_pV), gradient_pV)

    def write(self, positions: slice | Tensor, logits_pV: Tensor, gradient_pV: Tensor) -> None:
        """The same where there is no other gradient: it is written over whatever stands there."""
        q_pV = logits_pV.softmax(-1)
        torch.mul(q_pV, self.scale_of(positions), out=gradient_pV)
        self.add_labels(positions, logits_pV, Peak.of(logits_pV, q_pV), gradient_pV)

    def scale_of(self, positions: slice | Tensor) -> Tensor:
        """[p, 1], what softmax(z) counts in the gradient at each position."""
        return self.scale * self.wanted_X[positions, None].to(self.total.dtype)

    def add_labels(self, positions: slice | Tensor, logits_pV: Tensor, peak: Peak, gradient_pV: Tensor) -> None:
        """The same given the peaks, where softmax(z) is in the gradient already.

        The value is max z - z_label - log max softmax(z): a softmax is the one fast pass with an exponential in it.
        """
        label_p1, wanted_p = self.label_X[positions, None], self.wanted_X[positions]
        gap_p = peak.logit_p - logits_pV.gather(1, label_p1).squeeze(1)
        self.total += (gap_p - peak.logp_p).masked_fill(~wanted_p, 0).sum()
        gradient_pV.scatter_add_(1, label_p1, -self.scale_of(positions))
