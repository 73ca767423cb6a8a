"""TALAS, teacher-anchored layer alignment of sentence embeddings (arXiv 2606.21851).

All of it happens between pooled states: B x B similarities per layer, next to nothing beside a forward pass. The
contrastive term costs a second forward pass.

L_LASD and L_con compare the sentences of one forward pass with each other. Accumulated batches are not compared across:
a step's value is the mean of its batches' values, each weighing by its samples. So more accumulation does not
act as a larger batch on these two terms, as it does on L_TAMD and on every loss over single samples.

A detached guide is made of the very layer that it guides. From random weights the layers chase each other until all
sentences are alike: Spearman on STS-B dev of a 2-layer, 128-wide student after 300 steps is 76.0 by L_TAMD alone, with
L_LASD 75.6 (mean, trained guide), 67.5 (sum, trained), 67.7 (sum, detached), 11.4 (mean, detached).

Shapes: B samples, K anchored layers, L compared layers, d student width, e teacher width.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from schemas.configs.losses.talas import TALASConfig
from schemas.errors import ConfigError
from trainer.data.batch import Batch
from trainer.data.teacher_states import PooledTeacher
from trainer.numerics.geometry import at_least_float32, cosine_distance, cosines, unit
from trainer.objectives.context import LossContext
from trainer.objectives.loss import Loss, Request, Term
from trainer.objectives.parts.projection import project, projection_biases, projection_groups, projection_matrix
from trainer.objectives.parts.requirements import require_pooled
from trainer.student.states import SecondView, StudentPooled, StudentStates


def anchor_loss(projected_KBe: Sequence[Tensor], teacher_Be: Tensor) -> Tensor:
    """B * L_TAMD = sum over samples n of 1/K sum over layers l of d(e^S_{l,n} W_l, e^T_n)."""
    return torch.stack([cosine_distance(projected_Be, teacher_Be).sum() for projected_Be in projected_KBe]).mean()


def layer_change_loss(pooled_LBd: Tensor, reduction: str, guide: str) -> Tensor:
    """L_LASD = mean over adjacent layers l of |R_{l+1} - R_l|^2, R_l = E_l E_l^T over rows of length 1: [B, B].

    `reduction` sum is the squared Frobenius norm, mean divides it by B^2. A detached guide R_{l+1} gets no gradient.
    """
    similarity_LBB = cosines(pooled_LBd)
    guide_LBB = similarity_LBB[1:].detach() if guide == "detached" else similarity_LBB[1:]
    square_LBB = (guide_LBB - similarity_LBB[:-1]).square()
    return square_LBB.sum((1, 2)).mean() if reduction == "sum" else square_LBB.mean()


def contrastive_loss(first_Bd: Tensor, second_Bd: Tensor, temperature: float) -> Tensor:
    """B * L_con = sum over samples n of -log softmax_m(cos(u_n, v_m) / tau)[n]: its own second view among all."""
    similarity_BB = unit(first_Bd) @ unit(second_Bd).mT
    return F.cross_entropy(
        similarity_BB / temperature, torch.arange(len(first_Bd), device=first_Bd.device), reduction="sum"
    )


class TALAS(Loss):
    """contrastive * L_con + tamd * L_TAMD + lasd * L_LASD. Encoder students; teachers with pooled states."""

    def __init__(self, config: TALASConfig, context: LossContext):
        super().__init__(config)
        self.config, self.divisor, self.last = config, "sample", context.student.layers
        lowest = 0 if config.lasd_embeddings else 1
        anchored = self._anchored(config, self.last) if config.tamd > 0 else range(0)
        self.compared = range(lowest, self.last + 1) if config.lasd > 0 else range(0)
        if config.lasd > 0 and len(self.compared) < 2:
            raise ConfigError("talas.lasd: a student of 1 layer has no two to compare; set lasd_embeddings: true")
        width = require_pooled(context, "talas") if config.tamd > 0 else 0
        self.projections = nn.ParameterDict(
            {str(layer): projection_matrix(context.student.width, width, config.projection) for layer in anchored}
        )
        self.biases = projection_biases(self.projections, context.student.width, width, config.projection)
        self.requests = self._requests({*anchored, *self.compared, self.last})

    def _requests(self, layers: set[int]) -> frozenset[Request]:
        requests: set[Request] = {StudentPooled(layer) for layer in layers}
        if self.config.contrastive > 0:
            requests.add(SecondView())
        if self.config.tamd > 0:
            requests.add(PooledTeacher())
        return frozenset(requests)

    @staticmethod
    def _anchored(config: TALASConfig, last: int) -> range:
        if config.anchored_layers > last:
            raise ConfigError(f"talas.anchored_layers: {config.anchored_layers} of a student with only {last} layers")
        return range(last - config.anchored_layers + 1, last + 1)

    def forward(self, student: StudentStates, batch: Batch) -> dict[str, Term]:
        """L_con, L_TAMD and L_LASD (arXiv 2606.21851), those of weight above 0, each times the number of samples."""

        def pooled(layer: int) -> Tensor:
            return at_least_float32(student[StudentPooled(layer)])

        terms = {}
        if self.config.contrastive > 0:
            second_Bd = at_least_float32(student[SecondView()])
            total = contrastive_loss(pooled(self.last), second_Bd, self.config.temperature)
            terms["contrastive"] = Term(total, self.config.contrastive)
        if self.config.tamd > 0:
            projected = [
                project(pooled(int(layer)), matrix, self.biases.get(layer))
                for layer, matrix in self.projections.items()
            ]
            terms["tamd"] = Term(anchor_loss(projected, batch[PooledTeacher()]), self.config.tamd)
        if self.config.lasd > 0:
            compared_LBd = torch.stack([pooled(layer) for layer in self.compared])
            value = layer_change_loss(compared_LBd, self.config.lasd_reduction, self.config.lasd_guide)
            terms["lasd"] = Term(len(batch.sample_ids) * value, self.config.lasd)
        return terms

    def compares_samples(self) -> str | None:
        """L_con and L_LASD do."""
        weights = {"talas.contrastive": self.config.contrastive, "talas.lasd": self.config.lasd}
        return " and ".join(name for name, weight in weights.items() if weight > 0) or None

    def parameter_groups(self) -> list[dict[str, object]]:
        """One group: the projections of L_TAMD and their biases."""
        return projection_groups([*self.projections.values(), *self.biases.values()], self.config.projection)


LOSS = TALAS
