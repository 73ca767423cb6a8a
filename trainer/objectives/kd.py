"""Knowledge distillation, token by token: a divergence of the student's distribution from the teacher's.

Exact logits are the cached final state times the unembedding: one [tokens, d_T] x [d_T, V] product a step, a few rows
at a time. Stored ones, the likeliest or drawn, spare that product, and the final states.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from schemas.configs.losses import KDConfig
from schemas.models.teacher_head import TeacherHead
from trainer.data.batch import Batch, Needs, StudentStates, Unit
from trainer.objectives.kernels.carried import CarriedCrossEntropy
from trainer.objectives.kernels.divergences import choose_divergence
from trainer.objectives.kernels.forward_kl import forward_kl
from trainer.objectives.kernels.pooled_rows import Columns, Rows
from trainer.objectives.kernels.row_losses import RowLoss, row_losses
from trainer.objectives.kernels.teacher_rows import exact_rows, sampled_rows, top_k_rows
from trainer.objectives.loss import Carrier, Pair, Term
from trainer.objectives.parts.requirements import require_head, require_hidden, require_same_tokenizer, require_sparse


def token_kd_loss(
    logits_BSV: Tensor,
    teacher_hidden_BTd: Tensor,
    pair_BS: Tensor,
    position_BS: Tensor,
    head: TeacherHead,
    temperature: float,
    carried: CarriedCrossEntropy | None = None,
) -> Tensor:
    """tau^2 * sum over positions s of KL(softmax(z^T_s / tau) || softmax(z^S_s / tau)), z^T_s = head(H^T at pair[s]).

    Over the tokens that both have: model vocabularies are padded to round sizes, so V_T and V_S may differ at the end.
    """
    sample_P, position_P = position_BS.nonzero(as_tuple=True)
    teacher_Pd = teacher_hidden_BTd[sample_P, pair_BS[sample_P, position_P]]
    width = min(logits_BSV.shape[-1], len(head.weight_Vd))
    one_R = torch.ones(len(sample_P), device=sample_P.device)
    rows = Rows(
        position_P=sample_P * position_BS.shape[1] + position_P,
        row_P=torch.arange(len(sample_P), device=sample_P.device),
        share_P=one_R,
        num_rows=len(sample_P),
    )
    kl = forward_kl(
        logits_BSV,
        rows,
        Columns(width),
        lambda chunk: head(teacher_Pd[chunk], temperature=temperature)[:, :width],
        one_R,
        temperature,
        carried,
    )
    return temperature**2 * kl  # keeps the size of the gradient independent of tau


def row_kd_loss(logits_BSV: Tensor, position_BS: Tensor, widest: int, row_loss: RowLoss) -> Tensor:
    """The sum of `row_loss` over the positions that `position_BS` marks, in row-major order."""
    position_P = position_BS.flatten().nonzero().squeeze(1)
    return row_losses(logits_BSV.flatten(0, 1), position_P, widest, row_loss).sum()


class KD(Carrier):
    """A divergence, a mean over the response positions that student and teacher share. One tokenizer, causal teacher.

    Forward KL of exact logits has a kernel of its own, with fewer passes over memory; what it gives is the same.
    """

    def __init__(self, config: KDConfig, pair: Pair):
        super().__init__(config)
        self.name, self.config, self.temperature = config.loss, config, config.temperature
        self.term = "kl" if config.divergence == "forward_kl" else config.divergence
        self.divergence = choose_divergence(config)
        self.layer = pair.manifest.teacher.num_layers
        self.teacher_vocabulary = pair.manifest.teacher.vocab_size
        require_same_tokenizer(pair, "kd", "Use sra, which aligns spans, or give the student the tokenizer 'teacher'")
        if config.logits == "exact":
            self.head = require_head(pair, "kd", "Use sra with span_kd: 0")
            self.needs = Needs(teacher_hidden=require_hidden(pair, [self.layer], "kd"), pairs=True)
        else:
            require_sparse(pair, config.logits, config.temperature, "kd")
            self.needs = Needs(sparse=frozenset([config.logits]), pairs=True)

        self.has_kernel = config.logits == "exact" and config.divergence == "forward_kl"

    def kl_factor(self, counts: Mapping[Unit, int]) -> float:
        return self.weight * self.temperature**2 / max(1, counts["pair"]) if self.has_kernel else 0.0

    def forward(
        self, student: StudentStates, batch: Batch, carried: CarriedCrossEntropy | None = None
    ) -> dict[str, Term]:
        assert batch.pair_BS is not None  # asked for by `needs`
        if self.has_kernel:
            total = token_kd_loss(
                student.logits_BSV,
                batch.teacher_hidden[self.layer],
                batch.pair_BS,
                batch.paired_targets(),
                self.head,
                self.temperature,
                carried,
            )
            return {self.term: Term(total, "pair")}
        assert carried is None  # only the kernel carries
        vocabulary = student.logits_BSV.shape[-1]
        widest, row_loss = self._row_loss(batch, vocabulary)
        total = row_kd_loss(student.logits_BSV, batch.paired_targets(), max(widest, vocabulary), row_loss)
        return {self.term: Term(total, "pair")}

    def _row_loss(self, batch: Batch, vocabulary: int) -> tuple[int, RowLoss]:
        """The widest matrix that a row takes, and what a row is worth."""
        assert batch.pair_BS is not None
        sample_P, position_P = batch.paired_targets().nonzero(as_tuple=True)
        teacher_P = batch.pair_BS[sample_P, position_P]
        shared = min(vocabulary, self.teacher_vocabulary)
        if self.config.logits == "exact":
            teacher_Pd = batch.teacher_hidden[self.layer][sample_P, teacher_P]
            return self.teacher_vocabulary, exact_rows(
                lambda chunk: self.head(teacher_Pd[chunk])[:, :shared], shared, self.temperature, self.divergence
            )
        stored = batch.sparse[self.config.logits]
        ids_Pk, values_Pk = stored.ids_BTn[sample_P, teacher_P], stored.values_BTn[sample_P, teacher_P]
        if self.config.logits == "top_k":
            return vocabulary, top_k_rows(ids_Pk, values_Pk, shared, self.temperature, self.divergence)
        return vocabulary, sampled_rows(ids_Pk, values_Pk, shared, self.temperature)
