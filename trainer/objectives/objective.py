"""The objective: a weighted sum of losses. Each term is a sum, divided once by a count of the whole step."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from schemas.cache.manifest import CacheManifest
from schemas.configs.losses.base import distinct_names
from schemas.configs.losses.registry import LossConfig
from schemas.errors import RunError
from schemas.models.state_decoder import ArrayKey, DecodersByDevice, StateDecoder
from schemas.models.teacher_head import TeacherHead
from trainer.data.batch import Batch, Divisor
from trainer.data.decoding import decoding
from trainer.data.request import BatchRequest
from trainer.objectives.ce import CrossEntropy
from trainer.objectives.context import LossContext
from trainer.objectives.loss import Carrier, Loss, Term
from trainer.objectives.registry import find_loss
from trainer.student.device import rounded_products
from trainer.student.states import StudentRequest, StudentStates


class Objective(nn.Module):
    """L = sum over losses of weight * sum over terms of weight * total / count(divisor)."""

    def __init__(self, losses: Sequence[Loss], decoders: Mapping[ArrayKey, StateDecoder] = {}):
        """`decoders` are those of the cache's hidden states, on the CPU."""
        super().__init__()
        self._decoders = DecodersByDevice(decoders)
        self.losses = nn.ModuleList(losses)  # registers them; what is iterated keeps its type
        self.bound = tuple(losses)
        requests = {request for loss in losses for request in loss.requests}
        self.of_batch: frozenset[BatchRequest[Any]] = frozenset(r for r in requests if isinstance(r, BatchRequest))
        self.of_student: frozenset[StudentRequest[Any]] = frozenset(
            r for r in requests if isinstance(r, StudentRequest)
        )
        self.divisors = frozenset(loss.divisor for loss in losses)
        self._names = distinct_names([loss.name for loss in losses])

    def move_heads(self, device: torch.device) -> None:
        """Take the teacher's head, which is as large as its vocabulary, to a device or away from it."""
        for module in self.modules():
            if isinstance(module, TeacherHead):
                module.to(device)

    def decoded(self, device: torch.device, batch: Batch) -> Batch:
        """`batch` on its device with every state in float32, for several objectives over one cache."""
        found = decoding(batch.to(device), self._decoders.on(device))
        return replace(found, answers=dict(found.answers))

    def forward(
        self, student: StudentStates, batch: Batch, counts: Mapping[Divisor, int]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The scalar to send backward, and each term's unweighted part of the step's mean, detached: {"sra/cos": ...}.

        `counts` are those of the whole optimiser step, over all accumulated batches and ranks. So both results add up:
        their sums over the batches of a step are the objective and the means of one large batch. A unit that the step
        has none of adds 0. All losses compute in float32; under autocast a GPU's products of float32 take TF32.
        """
        parts: dict[str, Tensor] = {}
        device = batch.tokens_BS.device
        batch = decoding(batch, self._decoders.on(device))
        total = torch.zeros((), device=device)
        rounded = rounded_products(device, torch.is_autocast_enabled(device.type))
        with torch.autocast(device.type, enabled=False), rounded:
            for loss, name, terms in zip(self.bound, self._names, self._terms(student, batch, counts), strict=True):
                for term_name, term in terms.items():
                    part = term.total / divisor_of(loss, counts)
                    parts[f"{name}/{term_name}"] = part.detach()
                    if term.weight > 0:
                        total = total + loss.weight * term.weight * part
        return total, parts

    def _terms(
        self, student: StudentStates, batch: Batch, counts: Mapping[Divisor, int]
    ) -> Sequence[Mapping[str, Term]]:
        """Each loss's terms. The only cross-entropy is carried by the first loss that can, which makes all logits."""
        carriers = [loss for loss in self.bound if isinstance(loss, Carrier) and loss.carries]
        entropies = [loss for loss in self.bound if isinstance(loss, CrossEntropy)]
        if not carriers or len(entropies) != 1:
            return [loss(student, batch) for loss in self.bound]
        carrier, entropy = carriers[0], entropies[0]
        carried = entropy.carried(
            student, batch, *(loss.weight / divisor_of(loss, counts) for loss in (entropy, carrier))
        )
        of_carrier = carrier(student, batch, carried)
        given = {carrier: of_carrier, entropy: entropy.term(carried.total)}
        return [given[loss] if loss in given else loss(student, batch) for loss in self.bound]

    def parameter_groups(self) -> list[dict[str, object]]:
        """Groups for the optimiser of the losses' own parameters."""
        return [group for loss in self.bound for group in loss.parameter_groups()]


def divisor_of(loss: Loss, counts: Mapping[Divisor, int]) -> int:
    """The divisor of the terms of `loss`; of nothing at all, 1."""
    return max(1, counts[loss.divisor])


def build_objective(configs: Sequence[LossConfig], context: LossContext) -> Objective:
    """The losses of `configs`, bound to a student and a cache. One of weight 0 is left out and asks nothing of it.

    Raises RunError if the cache lacks what a loss needs, naming the way out; ConfigError if there is no such layer.
    """
    losses = [find_loss(type(config))(config, context) for config in configs if config.weight > 0]
    if not losses:
        raise RunError("the objective is empty: no loss has a weight above 0. Give one, e.g. `- loss: ce`")
    for loss in losses:
        _require_rows(loss, context.manifest)
    return Objective(losses, context.decoders)


def _require_rows(loss: Loss, manifest: CacheManifest) -> None:
    """Raises RunError if the loss reads states of tokens that have none in the cache."""
    if manifest.rows == "all":
        return
    found = (request.reads_everywhere() for request in loss.requests if isinstance(request, BatchRequest))
    if reads := sorted(what for what in found if what is not None):
        otherwise = f", or {loss.narrower}" if loss.narrower else ""
        raise RunError(
            f"{loss.name} reads the teacher's {', '.join(reads)} at every token, and this cache keeps rows of targets "
            f"and the tokens before them alone. Extract into a new output with states.rows: all{otherwise}"
        )
