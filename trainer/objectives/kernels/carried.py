"""Cross-entropy that comes along when another loss passes over the logits.

Alone it reads all logits twice and makes two more matrices of their shape. Carried, it costs one softmax of what lies
in the processor's cache anyway, and its gradient is added to the other loss's: two thirds of its time and all of its
memory are saved.

Shapes: X positions, V vocabulary; p positions of one block.
"""

from torch import Tensor

from trainer.numerics.geometry import at_least_float32


class CarriedCrossEntropy:
    """-log softmax(z_x)[label_x], summed into `total` over the positions that have a label, block by block.

    `factor` is what the objective multiplies it with, `carrier_factor` what it multiplies the carrying loss with.
    """

    def __init__(self, label_X: Tensor, wanted_X: Tensor, factor: float, carrier_factor: float, logits: Tensor):
        self.label_X, self.wanted_X = label_X, wanted_X
        self.factor, self.carrier_factor = factor, carrier_factor
        self.total = at_least_float32(logits.new_zeros(()))

    def add(self, positions: slice | Tensor, logits_pV: Tensor, gradient_pV: Tensor) -> None:
        """Adds the values of these positions, and factor * (softmax(z) - 1_label) to their gradient.

        The value is max z - log max softmax(z) - z_label: a softmax is the one fast pass with an exponential in it.
        """
        label_p1, wanted_p = self.label_X[positions, None], self.wanted_X[positions]
        q_pV = logits_pV.softmax(-1)
        gap_p = logits_pV.amax(-1) - logits_pV.gather(1, label_p1).squeeze(1)
        self.total += (gap_p - q_pV.amax(-1).log()).masked_fill(~wanted_p, 0).sum()
        factor_p1 = self.factor * wanted_p[:, None].to(q_pV.dtype)
        gradient_pV.addcmul_(q_pV, factor_p1).scatter_add_(1, label_p1, -factor_p1)
