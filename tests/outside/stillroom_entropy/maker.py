"""How a teacher makes entropies. Shapes: R tokens, V vocabulary."""

from collections.abc import Sequence

import torch
from torch import Tensor

from pipeline.corpus.sample import AnnotatedSample
from pipeline.teacher.maker import Cut, LogitsMaker


class EntropyMaker(LogitsMaker):
    """H = -sum p log p, p = softmax(z / temperature)."""

    name = "entropy"

    def begin(self, samples: Sequence[AnnotatedSample], device: torch.device) -> Cut:
        def cut(logits_RV: Tensor, rows: slice) -> list[Tensor]:
            logp_RV = (logits_RV / self.record.temperature).log_softmax(-1)
            return [-(logp_RV.exp() * logp_RV).sum(-1)]

        return cut


MAKER = EntropyMaker
