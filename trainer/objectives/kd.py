"""Knowledge distillation, token by token: a divergence of the student's distribution from the teacher's.

Exact logits are the cached final state times the unembedding: one [tokens, d_T] x [d_T, V] product per step, a few rows
at a time. Stored ones, the likeliest or drawn, need neither that product nor the final states.
"""

import torch
from torch import Tensor

from schemas.configs.losses.kd import KDConfig
from schemas.models.teacher_head import TeacherHead
from trainer.data.batch import Batch
from trainer.data.teacher_logits import TeacherLogits
from trainer.data.teacher_states import SparseTeacher
from trainer.data.tied_tokens import SameTokenPositions
from trainer.objectives.context import LossContext
from trainer.objectives.kernels.carried import CarriedCrossEntropy
from trainer.objectives.kernels.chunks import Chunks
from trainer.objectives.kernels.divergences import choose_divergence
from trainer.objectives.kernels.forward_kl import forward_kl
from trainer.objectives.kernels.pooled_rows import Columns, Rows
from trainer.objectives.kernels.row_losses import RowLoss, row_losses
from trainer.objectives.kernels.teacher_rows import exact_rows, sampled_rows, top_k_rows
from trainer.objectives.loss import Carrier, Request, Term
from trainer.objectives.parts.requirements import (
    require_final,
    require_final_head,
    require_same_tokenizer,
    require_sparse,
)
from trainer.student.logits import Logits
from trainer.student.states import StudentLogits, StudentStates

OTHERWISE = (
    "Use a loss for any two: sra, which aligns spans, alm, mta, mined, multilevel_ot or uld; or give the student the "
    "tokenizer 'teacher'"
)


def token_kd_loss(
    logits_BSV: Tensor | Logits,
    teacher_hidden_BTd: Tensor,
    teacher_position_BS: Tensor,
    where_BS: Tensor,
    head: TeacherHead,
    temperature: float,
    carried: CarriedCrossEntropy | None = None,
    chunks: Chunks | None = None,
    teacher_logits: TeacherLogits | None = None,
) -> Tensor:
    """tau^2 * sum over the s in `where_BS` of KL(softmax(z^T_s / tau) || softmax(z^S_s / tau)), with
    z^T_s = head(H^T at teacher_position[s]).

    Over the tokens that both have: model vocabularies are padded to round sizes, so V_T and V_S may differ at the end.
    """
    sample_P, position_P = where_BS.nonzero(as_tuple=True)
    teacher_Pd = teacher_hidden_BTd[sample_P, teacher_position_BS[sample_P, position_P]]
    width = min(logits_BSV.shape[-1], len(head.weight_Vd))
    one_R = torch.ones(len(sample_P), device=sample_P.device)
    rows = Rows(
        position_P=sample_P * where_BS.shape[1] + position_P,
        row_P=torch.arange(len(sample_P), device=sample_P.device),
        share_P=one_R,
        num_rows=len(sample_P),
    )
    weight = temperature**2  # keeps the size of the gradient independent of tau
    teacher = (teacher_logits or TeacherLogits())(head, teacher_Pd, temperature)
    kl = forward_kl(
        logits_BSV,
        rows,
        Columns(width),
        lambda chunk: teacher(chunk)[:, :width],
        one_R,
        temperature,
        carried,
        weight,
        chunks,
    )
    return weight * kl


def row_kd_loss(
    logits_BSV: Tensor | Logits,
    where_BS: Tensor,
    widest: int,
    row_loss: RowLoss,
    carried: CarriedCrossEntropy | None = None,
    chunks: Chunks | None = None,
) -> Tensor:
    """The sum of `row_loss` over the positions that `where_BS` marks, in row-major order."""
    position_P = where_BS.flatten().nonzero().squeeze(1)
    return row_losses(logits_BSV, position_P, widest, row_loss, carried=carried, chunks=chunks)


class KD(Carrier):
    """A divergence, a mean over the response positions that student and teacher share. One tokenizer, causal teacher.

    Forward KL of exact logits has a kernel of its own, with fewer passes over memory; what it gives is the same.
    """

    carries = True

    def __init__(self, config: KDConfig, context: LossContext):
        super().__init__(config)
        self.config, self.temperature, self.divisor = config, config.temperature, "pair"
        self.term = "kl" if config.divergence == "forward_kl" else config.divergence
        self.divergence = choose_divergence(config)
        self.teacher_vocabulary = context.manifest.teacher.vocab_size
        require_same_tokenizer(context, "kd", OTHERWISE)
        if config.logits == "exact":
            self.head = require_final_head(context, "kd", "Use sra with span_kd: 0")
            self.final = require_final(context, "kd", "targets")
            of_teacher: frozenset[Request] = frozenset([self.final])
        else:
            self.stored = SparseTeacher(config.logits, "targets")
            of_teacher = frozenset([require_sparse(context, self.stored, config.temperature, "kd")])
        self.requests = frozenset([StudentLogits(), SameTokenPositions(), *of_teacher])
        self.of_exact_kl = config.logits == "exact" and config.divergence == "forward_kl"

    def forward(
        self, student: StudentStates, batch: Batch, carried: CarriedCrossEntropy | None = None
    ) -> dict[str, Term]:
        """`kl`, or under the divergence's name: tau^2 D, summed over the predictions that both sides make."""
        logits_BSV, where_BS = student[StudentLogits()], batch.shared_predictions()
        if self.of_exact_kl:
            total = token_kd_loss(
                logits_BSV,
                batch[self.final],
                batch[SameTokenPositions()],
                where_BS,
                self.head,
                self.temperature,
                carried,
                self.chunks,
                batch.teacher_logits,
            )
            return {self.term: Term(total)}
        vocabulary = logits_BSV.shape[-1]
        widest, row_loss = self._row_loss(batch, where_BS, vocabulary)
        total = row_kd_loss(logits_BSV, where_BS, max(widest, vocabulary), row_loss, carried, self.chunks)
        return {self.term: Term(total)}

    def _row_loss(self, batch: Batch, where_BS: Tensor, vocabulary: int) -> tuple[int, RowLoss]:
        """The widest matrix that a row takes, and what a row is worth."""
        sample_P, position_P = where_BS.nonzero(as_tuple=True)
        teacher_P = batch[SameTokenPositions()][sample_P, position_P]
        shared = min(vocabulary, self.teacher_vocabulary)
        if self.config.logits == "exact":
            teacher = batch.teacher_logits(self.head, batch[self.final][sample_P, teacher_P])
            return self.teacher_vocabulary, exact_rows(
                lambda chunk: teacher(chunk)[:, :shared], shared, self.temperature, self.divergence
            )
        stored = batch[self.stored]
        ids_Pk, values_Pk = stored.ids_BTn[sample_P, teacher_P], stored.values_BTn[sample_P, teacher_P]
        if self.config.logits == "top_k":
            return vocabulary, top_k_rows(ids_Pk, values_Pk, shared, self.temperature, self.divergence)
        return vocabulary, sampled_rows(ids_Pk, values_Pk, shared, self.temperature)


LOSS = KD
