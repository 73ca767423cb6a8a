"""A student's logits as what they are made of. No matrix of [tokens, vocabulary] exists unless somebody asks for it.

At a vocabulary of 152,000, the logits of 8,192 tokens and their gradient are 10 GB, more than all other activations of
a small student. So a forward pass ends with the final states, and whoever reads logits makes some rows of them at a
time (`trainer.objectives.kernels.logit_pass`).

Shapes: X student positions, V vocabulary, d_S wide; `...` is any number of leading axes.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import linear

from schemas.models.logits import LogitTransform


@dataclass(frozen=True)
class Logits:
    """z = transform(h W_U^T + b), [..., V], of states h that differ from row to row; or z as it is, without a head."""

    hidden: Tensor  # [..., d_S], or [..., V] without a head
    weight_Vd: Tensor | None = None
    bias_V: Tensor | None = None
    transform: LogitTransform = LogitTransform()  # noqa: RUF009 - frozen
    product: torch.dtype | None = None  # what the head multiplies in; left out, the dtype of the states

    @property
    def shape(self) -> torch.Size:
        """[..., V]."""
        width = self.hidden.shape[-1] if self.weight_Vd is None else len(self.weight_Vd)
        return torch.Size([*self.hidden.shape[:-1], width])

    @property
    def dtype(self) -> torch.dtype:
        """What the student computes its states in."""
        return self.hidden.dtype

    @property
    def device(self) -> torch.device:
        """Where the states are."""
        return self.hidden.device

    def flatten(self, start: int = 0, end: int = -2) -> "Logits":
        """The same with leading axes joined, as a tensor's would be: [X, V]."""
        return replace(self, hidden=self.hidden.flatten(start, end))

    def without_tensors(self) -> "Logits":
        """What an autograd function may keep beside the tensors that it saves."""
        return replace(self, hidden=self.hidden.new_empty(0), weight_Vd=None, bias_V=None)

    def made_of(self, hidden: Tensor, weight_Vd: Tensor | None, bias_V: Tensor | None) -> "Logits":
        """The same of other tensors."""
        return replace(self, hidden=hidden, weight_Vd=weight_Vd, bias_V=bias_V)

    def whole(self) -> Tensor:
        """All of them, [..., V], with gradient, in the dtype of the product."""
        if self.weight_Vd is None:
            return self.hidden
        dtype = self.product or self.dtype
        bias_V = None if self.bias_V is None else self.bias_V.to(dtype)
        return self.transform(linear(self.hidden.to(dtype), self.weight_Vd.to(dtype), bias_V))


def as_logits(logits: Tensor | Logits) -> Logits:
    """`logits` themselves, or those that a tensor [..., V] holds."""
    return logits if isinstance(logits, Logits) else Logits(logits)
