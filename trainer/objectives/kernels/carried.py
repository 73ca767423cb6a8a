"""Cross-entropy that comes along when another loss passes over the logits.

Alone it reads all logits twice and makes two more matrices of their shape. Carried, it costs one softmax of what lies
in the processor's cache anyway, and its gradient is added to the other loss's: two thirds of its time and all of its
memory are saved.

Both gradients go through the head as one, so their ratio is fixed when it is made. The objective hands both scales
down, and the backward pass refuses any others.

Shapes: X positions, V vocabulary; p positions of one block.
"""

import torch
from torch import Tensor

from trainer.objectives.kernels.fused import Entropy, entropy_rows, is_fused
from trainer.objectives.kernels.powers import Powers
from trainer.student.logits import Logits


class CarriedCrossEntropy:
    """-log softmax(z_x)[label_x], summed into `total` over the positions that have a label, block by block.

    `scale` is what the objective multiplies `total` with, `carrier_scale` what it multiplies a carrier's term with,
    the term's own weight aside.
    """

    def __init__(self, label_X: Tensor, wanted_X: Tensor, scale: float, carrier_scale: float, logits: Tensor | Logits):
        self.wanted_X, self._label_X1 = wanted_X, label_X[:, None]
        self.scale, self.carrier_scale = scale, carrier_scale
        dtype = torch.promote_types(logits.dtype, torch.float32)
        self.total = torch.zeros((), dtype=dtype, device=logits.device)
        self._scale_X1 = scale * wanted_X[:, None].to(dtype)

    def add(self, positions: slice | Tensor, powers: Powers, gradient_pV: Tensor) -> None:
        """Adds the values of these positions, and scale * (softmax(z) - 1_label) to their gradient; the powers are
        those of their logits at temperature 1."""
        gradient_pV.addcmul_(powers.power_nN, self.scale_of(positions) / powers.sum_n1)
        self.add_labels(positions, powers, gradient_pV)

    def write(self, positions: slice | Tensor, logits_pV: Tensor, gradient_pV: Tensor) -> None:
        """The same where there is no other gradient: it is written over whatever stands there, such as the logits."""
        if is_fused(logits_pV):
            self.count(positions, entropy_rows(logits_pV, gradient_pV, self.of(positions)))
            return
        powers = Powers.of(logits_pV)
        torch.mul(powers.power_nN, self.scale_of(positions) / powers.sum_n1, out=gradient_pV)
        self.add_labels(positions, powers, gradient_pV)

    def scale_of(self, positions: slice | Tensor) -> Tensor:
        """[p, 1], what softmax(z) counts in the gradient at each position."""
        return self._scale_X1[positions]

    def add_labels(self, positions: slice | Tensor, powers: Powers, gradient_pV: Tensor) -> None:
        """The same where softmax(z) is in the gradient already."""
        label_p1 = self._label_X1[positions]
        self.count(positions, powers.surprise(label_p1))
        gradient_pV.scatter_add_(1, label_p1, -self.scale_of(positions))

    def of(self, positions: slice | Tensor) -> Entropy:
        """What a kernel must know of these positions."""
        return Entropy(self._label_X1[positions][:, 0], self.scale_of(positions)[:, 0])

    def count(self, positions: slice | Tensor, nll_p: Tensor) -> None:
        """Adds the values of those of these positions that have a label."""
        self.total += nll_p.masked_fill(~self.wanted_X[positions], 0).sum()
