"""MultiLevelOT, multi-level optimal transport (arXiv 2412.14528): a response's predictions are compared token by token
in one common order of either vocabulary, and as two sequences of distributions. Any two tokenizers.

    t^k(i), s^k(i)   probabilities that the i-th prediction of teacher and student gives to the k tokens which its side
                     favours most, summed over the response (equations 10-12): one order for all its predictions
    L_HAD = sum_i |t^k(i) - s^k(i)|_1                     holistic absolute difference (equation 14)
    L_SL  = - sum_i sum_l t^k_l(i) log s^k_l(i)           sequential logarithmic loss (equation 16)
    L_SD  = sum_ij P_ij C_ij, C_ij = |t^k(i) - s^k(j)|_1  Sinkhorn distance (equations 17-20), at tau_SD
    L = alpha (L_HAD + beta L_SL + gamma L_SD)            equation 21, beside cross-entropy

What the paper and the authors' code (2018cx/Multi-Level-OT) do, and we:
- The paper writes "logits" and takes their logarithm: probabilities over the whole vocabulary, cut to k, not made to
  sum to 1 again. So we do. The code divides logits by their standard deviation first, and for L_SL and L_SD applies
  another softmax to the k probabilities; neither is in the paper.
- The student's order that the paper asks for (equation 11) is an assignment over the whole vocabulary. The code sorts
  each side by its own sums, and so do we.
- The code sums over the batch. A sample's loss must not depend on its neighbours: ours is the sample's own order.
- The paper has one length T. Ours differ: L_HAD and L_SL pair the i-th predictions up to the shorter response, as the
  code's L_HAD does; L_SD moves all of one side to all of the other, by a plan whose columns, the student's positions,
  sum to 1. The code pads both to the batch's longest with rows of zeros, and takes N = 10 and a factor of 0.001.
- Pairs are predictions of the response's tokens, as in the code. In a conversation every target is a response: its
  predictions are a sequence of their own, with their own order of either vocabulary and their own plan.
- The paper sums over tokens beside a sum of cross-entropies: all three are per token, the student's targets.

Costs one [T, d_T] x [d_T, V_T] product, a softmax of every prediction on either side, and a [T, S] kernel per sample.

Shapes: B samples, N target ranges of the sample that has most, Q = B * N sequences of predictions, S and T positions of
student and teacher, V student vocabulary, R rows (predictions, sequence after sequence), M predictions of the longest
sequence, Z temperatures, k tokens.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from schemas.configs.losses.multilevel_ot import MultiLevelOTConfig
from trainer.data.batch import Batch
from trainer.data.target_ranges import TargetRanges
from trainer.objectives.context import LossContext
from trainer.objectives.kernels.leading_tokens import leading_tokens, log_probabilities
from trainer.objectives.kernels.logit_pass import LogitPass
from trainer.objectives.loss import Loss, Term
from trainer.objectives.parts.prediction_pairs import positions, predictions_by_range
from trainer.objectives.parts.requirements import require_final, require_final_head
from trainer.objectives.parts.sinkhorn import sinkhorn_distance
from trainer.student.logits import Logits, as_logits
from trainer.student.states import StudentLogits, StudentStates


@dataclass(frozen=True)
class Predictions:
    """One side's log-probabilities of its leading tokens, sequence by sequence."""

    log_p_QMk: Tensor  # at tau_SL, of L_HAD and L_SL
    smooth_QMk: Tensor  # probabilities at tau_SD
    mask_QM: Tensor


def absolute_difference(student: Predictions, teacher: Predictions) -> Tensor:
    """L_HAD, summed over the i that both sides have."""
    student_QMk, teacher_QMk, both_QM1 = _paired(student, teacher)
    return torch.where(both_QM1, teacher_QMk.exp() - student_QMk.exp(), 0.0).abs().sum()


def sequential_logarithmic(student: Predictions, teacher: Predictions) -> Tensor:
    """L_SL, summed over the i that both sides have."""
    student_QMk, teacher_QMk, both_QM1 = _paired(student, teacher)
    return -torch.where(both_QM1, teacher_QMk.exp() * student_QMk, 0.0).sum()


def _paired(student: Predictions, teacher: Predictions) -> tuple[Tensor, Tensor, Tensor]:
    shorter = min(student.mask_QM.shape[1], teacher.mask_QM.shape[1])
    both_QM = student.mask_QM[:, :shorter] & teacher.mask_QM[:, :shorter]
    return student.log_p_QMk[:, :shorter], teacher.log_p_QMk[:, :shorter], both_QM[:, :, None]


class MultiLevelOT(Loss):
    """absolute * L_HAD + logarithmic * L_SL + sinkhorn * L_SD, by the student's targets. Needs a causal teacher."""

    def __init__(self, config: MultiLevelOTConfig, context: LossContext):
        super().__init__(config)
        self.config, self.divisor = config, "token"
        self.head = require_final_head(context, "multilevel_ot", "Use sra with span_kd: 0")
        self.final = require_final(context, "multilevel_ot", "targets")
        self.temperatures = (config.temperature, config.sinkhorn_temperature)
        self.requests = frozenset([StudentLogits(), TargetRanges(), self.final])

    def forward(self, student: StudentStates, batch: Batch) -> dict[str, Term]:
        """L_HAD, L_SL and L_SD (equations 14, 16 and 17), those of weight above 0, summed over sequences."""
        student_BNS, teacher_BNT = predictions_by_range(batch)
        logits_BSV = student[StudentLogits()]
        k = min(self.config.top_k, logits_BSV.shape[-1], len(self.head.weight_Vd))
        own, theirs = self._student(logits_BSV, student_BNS, k), self._teacher(batch, teacher_BNT, logits_BSV, k)
        config, terms = self.config, {}
        if config.absolute > 0:
            terms["absolute"] = Term(absolute_difference(own, theirs), config.absolute)
        if config.logarithmic > 0:
            terms["logarithmic"] = Term(sequential_logarithmic(own, theirs), config.logarithmic)
        if config.sinkhorn > 0:
            distance_Q = sinkhorn_distance(
                theirs.smooth_QMk,
                own.smooth_QMk,
                theirs.mask_QM,
                own.mask_QM,
                config.regularisation,
                config.iterations,
            )
            terms["sinkhorn"] = Term(distance_Q.sum(), config.sinkhorn)
        return terms

    def _student(self, logits_BSV: Tensor | Logits, predicts_BNS: Tensor, k: int) -> Predictions:
        logits_XV, position_R = as_logits(logits_BSV).flatten(0, 1), positions(predicts_BNS)
        made = LogitPass(logits_XV)
        leading = leading_tokens(
            lambda chunk: made.rows(position_R[chunk]),
            _lengths(predicts_BNS).tolist(),
            made.vocabulary,
            k,
            self.temperatures,
            logits_XV,
            self.chunks,
        )
        log_q_ZRk = log_probabilities(logits_XV, position_R, leading, self.temperatures, self.chunks)
        return _by_sequence(log_q_ZRk, _lengths(predicts_BNS))

    @torch.no_grad()
    def _teacher(self, batch: Batch, predicts_BNT: Tensor, like: Tensor | Logits, k: int) -> Predictions:
        hidden_Rd = batch[self.final].flatten(0, 1)[positions(predicts_BNT)]
        counts = _lengths(predicts_BNT).tolist()
        leading = leading_tokens(
            batch.teacher_logits(self.head, hidden_Rd),
            counts,
            len(self.head.weight_Vd),
            k,
            self.temperatures,
            like,
            self.chunks,
        )
        rows = [self.head(own_Rd, ids_Rk[0]) for own_Rd, ids_Rk in _sequences(counts, hidden_Rd, leading.ids_Rk)]
        logits_Rk = torch.cat([hidden_Rd.new_empty(0, k), *rows]).to(leading.normaliser_ZR.dtype)
        scaled_ZRk = torch.stack([logits_Rk / temperature for temperature in self.temperatures])
        return _by_sequence(scaled_ZRk - leading.normaliser_ZR[:, :, None], _lengths(predicts_BNT))


def _lengths(predicts_BNX: Tensor) -> Tensor:
    """[Q]: how many predictions each sequence has, in the order of `positions`."""
    return predicts_BNX.sum(2).flatten()


def _sequences(counts: list[int], *rows: Tensor) -> list[tuple[Tensor, ...]]:
    """The rows of each sequence that has any."""
    return [part for part in zip(*(row.split(counts) for row in rows), strict=True) if len(part[0])]


def _by_sequence(log_p_ZRk: Tensor, count_Q: Tensor) -> Predictions:
    """Rows into a sequence's first places, padded with 0."""
    mask_QM = torch.arange(max(1, int(count_Q.max())), device=count_Q.device) < count_Q[:, None]
    token_Rk, smooth_Rk = log_p_ZRk[0], log_p_ZRk[1].exp()
    empty_QMk = token_Rk.new_zeros(*mask_QM.shape, token_Rk.shape[1])
    where = mask_QM.nonzero(as_tuple=True)
    return Predictions(empty_QMk.index_put(where, token_Rk), empty_QMk.index_put(where, smooth_Rk), mask_QM)


LOSS = MultiLevelOT
