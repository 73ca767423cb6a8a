"""What turns final states into logits, a part of the vocabulary at a time.

Shapes: N states, d hidden size, V vocabulary, v of one part.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from schemas.models.logits import LogitTransform

TOKENS_AT_ONCE = 2**13  # a head in bfloat16 is not copied whole to float32, which may take more than a GPU has left


@dataclass(frozen=True)
class Head:
    """The teacher's unembedding, on its device and in its dtype."""

    weight_Vd: Tensor
    bias_V: Tensor | None
    transform: LogitTransform

    def parts(self) -> Iterator[tuple[slice, Tensor]]:
        """Tokens, and their rows of the weight, [v, d] float32."""
        for start in range(0, len(self.weight_Vd), TOKENS_AT_ONCE):
            tokens = slice(start, start + TOKENS_AT_ONCE)
            yield tokens, self.weight_Vd[tokens].float()

    def logits(self, states_Nd: Tensor) -> Tensor:
        """[N, V] float32, on the head's device."""
        found = list(self.logits_of_parts(states_Nd))
        return found[0] if len(found) == 1 else torch.cat(found, 1)

    def logits_of_parts(self, states_Nd: Tensor) -> Iterator[Tensor]:
        """[N, v] float32 of each part of the vocabulary."""
        states_Nd = states_Nd.to(self.weight_Vd.device).float()
        for tokens, weight_vd in self.parts():
            yield self.transform.of_states(states_Nd, weight_vd, None if self.bias_V is None else self.bias_V[tokens])
