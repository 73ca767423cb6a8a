"""A divergence from the teacher at a few positions, for each of the three ways to have its logits, with the gradient.

exact: every token, from the final states. top_k: the stored tokens and all the others as one event, on both sides; no
divergence can be larger than the exact one, and at k = V it is the same. sampled: the student's cross-entropy under
stored draws, whose gradient is that of forward KL without bias (arXiv 2503.16870); its value lacks the teacher's
entropy.

Shapes: P positions, V student vocabulary, N tokens that both models have, k stored tokens, n rows of one chunk.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from trainer.objectives.divergences import Divergence
from trainer.objectives.row_losses import RowLoss

# The logarithm of an impossible event: its exponential is 0 in any dtype, and differences of two stay finite.
IMPOSSIBLE = -1e4


def exact_rows(
    teacher_logits: Callable[[slice], Tensor], shared: int, temperature: float, divergence: Divergence
) -> RowLoss:
    """tau^2 D(softmax(z^T / tau), softmax(z^S / tau)) over the first `shared` tokens, `teacher_logits` being [n, N]."""

    def row_loss(logits_nV: Tensor, chunk: slice) -> tuple[Tensor, Tensor]:
        log_q_nN = (logits_nV[:, :shared] / temperature).log_softmax(-1)
        log_p_nN = (teacher_logits(chunk).to(log_q_nN.dtype) / temperature).log_softmax(-1)
        value_n, pull_nN = divergence(log_p_nN, log_q_nN)
        gradient_nN = pull_nN - log_q_nN.exp() * pull_nN.sum(-1, keepdim=True)
        padding = (0, logits_nV.shape[1] - shared)
        return temperature**2 * value_n, torch.nn.functional.pad(temperature * gradient_nN, padding)

    return row_loss


def top_k_rows(ids_Pk: Tensor, stored_Pk: Tensor, temperature: float, divergence: Divergence) -> RowLoss:
    """tau^2 D over k + 1 events, of stored log-probabilities at this temperature."""

    def row_loss(logits_nV: Tensor, chunk: slice) -> tuple[Tensor, Tensor]:
        log_q_nV = (logits_nV / temperature).log_softmax(-1)
        ids_nk, known_nk = _known(ids_Pk[chunk], logits_nV.shape[1])
        log_p_nk = stored_Pk[chunk].to(log_q_nV.dtype).clamp_min(IMPOSSIBLE).masked_fill(~known_nk, IMPOSSIBLE)
        log_q_nk = log_q_nV.gather(1, ids_nk).masked_fill(~known_nk, IMPOSSIBLE)
        named_nV = torch.zeros_like(log_q_nV).scatter_add_(1, ids_nk, known_nk.to(log_q_nV.dtype)) > 0
        others_nV = log_q_nV.masked_fill(named_nV, -torch.inf)
        tail_q_n1 = others_nV.logsumexp(-1, keepdim=True).clamp_min(IMPOSSIBLE)
        held_n1 = log_p_nk.exp().sum(-1, keepdim=True).clamp_max(1)
        tail_p_n1 = torch.log1p(-held_n1).clamp_min(IMPOSSIBLE)
        value_n, pull_nE = divergence(torch.cat([log_p_nk, tail_p_n1], 1), torch.cat([log_q_nk, tail_q_n1], 1))
        gradient_nV = (others_nV - tail_q_n1).exp() * pull_nE[:, -1:] - log_q_nV.exp() * pull_nE.sum(-1, keepdim=True)
        gradient_nV.scatter_add_(1, ids_nk, pull_nE[:, :-1] * known_nk)
        return temperature**2 * value_n, temperature * gradient_nV

    return row_loss


def sampled_rows(ids_Pk: Tensor, stored_Pk: Tensor, temperature: float) -> RowLoss:
    """-tau^2 sum_i w_i log q(x_i), of drawn ids, with repeats, and their weights."""

    def row_loss(logits_nV: Tensor, chunk: slice) -> tuple[Tensor, Tensor]:
        log_q_nV = (logits_nV / temperature).log_softmax(-1)
        ids_nk, known_nk = _known(ids_Pk[chunk], logits_nV.shape[1])
        weight_nk = stored_Pk[chunk].to(log_q_nV.dtype) * known_nk
        value_n = -(weight_nk * log_q_nV.gather(1, ids_nk)).sum(-1)
        gradient_nV = log_q_nV.exp() * weight_nk.sum(-1, keepdim=True)
        return temperature**2 * value_n, temperature * gradient_nV.scatter_add_(1, ids_nk, -weight_nk)

    return row_loss


def _known(ids_nk: Tensor, vocabulary: int) -> tuple[Tensor, Tensor]:
    """Which ids the student knows, the others made 0: the teacher's vocabulary may be padded to a larger size."""
    known_nk = ids_nk < vocabulary
    return ids_nk.masked_fill(~known_nk, 0), known_nk
