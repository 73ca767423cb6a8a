"""A divergence from the teacher at a few positions, for each of the three ways to have its logits, with the gradient.

exact: every token, from the final states. top_k: the stored tokens and all the others as one event, on both sides; no
divergence can be larger than the exact one, and at k = V it is the same. sampled: the student's cross-entropy under
stored draws, whose gradient is that of forward KL without bias (arXiv 2503.16870); its value lacks the teacher's
entropy. All are over the tokens that both models have, the first `shared`: vocabularies are padded to round sizes.

Shapes: P positions, V student vocabulary, N tokens that both models have, k stored tokens, E = k + 1 events, n rows of
one chunk.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from schemas.cache.kinds.next_token import NO_TAIL
from trainer.objectives.kernels.divergences import Divergence
from trainer.objectives.kernels.row_losses import RowLoss


def exact_rows(
    teacher_logits: Callable[[slice], Tensor], shared: int, temperature: float, divergence: Divergence
) -> RowLoss:
    """tau^2 D(softmax(z^T / tau), softmax(z^S / tau)) over the first `shared` tokens, `teacher_logits` being [n, N]."""

    def row_loss(logits_nV: Tensor, chunk: slice) -> tuple[Tensor, Tensor]:
        """The losses [n] and their gradient [n, V]."""
        log_q_nN = _log_softmax(logits_nV, shared, temperature)
        log_p_nN = (teacher_logits(chunk).to(log_q_nN.dtype) / temperature).log_softmax(-1)
        value_n, pull_nN = divergence(log_p_nN, log_q_nN)
        gradient_nN = pull_nN - log_q_nN.exp() * pull_nN.sum(-1, keepdim=True)
        return temperature**2 * value_n, _widen(temperature * gradient_nN, logits_nV)

    return row_loss


def top_k_rows(ids_Pk: Tensor, stored_PE: Tensor, shared: int, temperature: float, divergence: Divergence) -> RowLoss:
    """tau^2 D over k + 1 events, of stored log-probabilities at this temperature, the last that of all other tokens."""

    def row_loss(logits_nV: Tensor, chunk: slice) -> tuple[Tensor, Tensor]:
        """The losses [n] and their gradient [n, V]."""
        log_q_nN = _log_softmax(logits_nV, shared, temperature)
        ids_nk, known_nk = _known(ids_Pk[chunk], shared)
        stored_nE = stored_PE[chunk].to(log_q_nN.dtype)
        named_p_nk = stored_nE[:, :-1].masked_fill(~known_nk, NO_TAIL)
        log_p_nE = torch.cat([named_p_nk, stored_nE[:, -1:]], 1).log_softmax(-1).clamp_min(NO_TAIL)
        log_q_nk = log_q_nN.gather(1, ids_nk).masked_fill(~known_nk, NO_TAIL)
        named_nN = torch.zeros_like(log_q_nN).scatter_add_(1, ids_nk, known_nk.to(log_q_nN.dtype)) > 0
        others_nN = log_q_nN.masked_fill(named_nN, -torch.inf)
        tail_q_n1 = others_nN.logsumexp(-1, keepdim=True).clamp_min(NO_TAIL)
        value_n, pull_nE = divergence(log_p_nE, torch.cat([log_q_nk, tail_q_n1], 1))
        gradient_nN = (others_nN - tail_q_n1).exp() * pull_nE[:, -1:] - log_q_nN.exp() * pull_nE.sum(-1, keepdim=True)
        gradient_nN.scatter_add_(1, ids_nk, pull_nE[:, :-1] * known_nk)
        return temperature**2 * value_n, _widen(temperature * gradient_nN, logits_nV)

    return row_loss


def sampled_rows(ids_Pk: Tensor, stored_Pk: Tensor, shared: int, temperature: float) -> RowLoss:
    """-tau^2 sum_i w_i log q(x_i), of drawn ids, with repeats, and their weights."""

    def row_loss(logits_nV: Tensor, chunk: slice) -> tuple[Tensor, Tensor]:
        """The losses [n] and their gradient [n, V]."""
        log_q_nN = _log_softmax(logits_nV, shared, temperature)
        ids_nk, known_nk = _known(ids_Pk[chunk], shared)
        weight_nk = stored_Pk[chunk].to(log_q_nN.dtype) * known_nk
        value_n = -(weight_nk * log_q_nN.gather(1, ids_nk)).sum(-1)
        gradient_nN = log_q_nN.exp() * weight_nk.sum(-1, keepdim=True)
        gradient_nN.scatter_add_(1, ids_nk, -weight_nk)
        return temperature**2 * value_n, _widen(temperature * gradient_nN, logits_nV)

    return row_loss


def _log_softmax(logits_nV: Tensor, shared: int, temperature: float) -> Tensor:
    """log softmax(z^S / tau) over the shared tokens."""
    return (logits_nV[:, :shared] / temperature).log_softmax(-1)


def _widen(gradient_nN: Tensor, logits_nV: Tensor) -> Tensor:
    """With zeros at the tokens that the student alone has."""
    return torch.nn.functional.pad(gradient_nN, (0, logits_nV.shape[1] - gradient_nN.shape[1]))


def _known(ids_nk: Tensor, shared: int) -> tuple[Tensor, Tensor]:
    """Which ids the student knows, the others made 0."""
    known_nk = ids_nk < shared
    return ids_nk.masked_fill(~known_nk, 0), known_nk
