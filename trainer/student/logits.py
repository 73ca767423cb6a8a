"""What the student does to h W_U^T + b before it calls it logits: an inner state must go the same way."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from schemas.errors import RunError

TOLERANCE = 1e-3  # of the largest logit


@dataclass(frozen=True)
class LogitShape:
    """z = softcap * tanh(scale * x / softcap), or scale * x without a soft-cap."""

    scale: float = 1.0
    softcap: float | None = None

    def __call__(self, product: Tensor) -> Tensor:
        """z of x = h W_U^T + b."""
        scaled = product if self.scale == 1.0 else product * self.scale
        return scaled if self.softcap is None else self.softcap * (scaled / self.softcap).tanh()

    def through(self, gradient: Tensor, logits: Tensor) -> Tensor:
        """The gradient to x, of that to z."""
        scaled = gradient if self.scale == 1.0 else gradient * self.scale
        return scaled if self.softcap is None else scaled * (1 - (logits / self.softcap).square())


@torch.no_grad()
def check_logits(model: Any, shape: LogitShape) -> None:
    """The student's logits must be its head's, shaped so, of its final states. Raises RunError with the deviation."""
    training = model.training
    model.eval()
    ids_1S = torch.arange(8, device=model.device)[None] % model.get_input_embeddings().num_embeddings
    output = model(input_ids=ids_1S, output_hidden_states=True)
    model.train(training)
    found = shape(model.get_output_embeddings()(output.hidden_states[-1]).float())
    deviation, size = (found - output.logits).abs().max().item(), output.logits.abs().max().item()
    if deviation > TOLERANCE * size:
        raise RunError(
            f"the logits of {type(model).__name__} are not its head times its final states: they differ by up to "
            f"{deviation:.3g}, at logits of up to {size:.3g}. fdd and dskd put other states through that head, and "
            "cannot know what it does to them; use kd, mta or sra"
        )
