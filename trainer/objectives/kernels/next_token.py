"""Log-probabilities of single next tokens, and of a set of tokens together, without a log-softmax of all logits.

A few rows of logits at a time are reduced to two numbers per row. The backward pass makes the rows again, and sends
their gradient through the head: what each row's gradient is multiplied with is not known before.

Shapes: X positions of one side, P positions that are read, V vocabulary, I tokens of the set; n positions of one chunk.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from trainer.objectives.kernels.chunks import Chunks, chunks_for, slices
from trainer.objectives.kernels.logit_pass import LogitPass
from trainer.student.logits import Logits, as_logits


@torch.no_grad()
def next_token_logprobs(
    logits: Callable[[slice], Tensor],
    token_P: Tensor,
    set_I: Tensor | None,
    vocabulary: int,
    chunks: Chunks | None = None,
) -> tuple[Tensor, Tensor]:
    """log p(token_P), [P], and log sum of p over the set, [P], 0 without a set: p = softmax(logits), made by chunks."""
    token, together = torch.zeros_like(token_P, dtype=torch.float32), torch.zeros_like(token_P, dtype=torch.float32)
    for chunk in slices(0, len(token_P), chunks_for(token_P, chunks).rows // vocabulary):
        _, token[chunk], together[chunk] = _read(logits(chunk), token_P[chunk], set_I)
    return token, together


def next_token_logprobs_of(
    logits: Tensor | Logits, position_P: Tensor, token_P: Tensor, set_I: Tensor | None, chunks: Chunks | None = None
) -> tuple[Tensor, Tensor]:
    """The same of the rows `position_P` (without repeats) of a student's logits [X, V], with gradient to them."""
    of = as_logits(logits)
    arguments = (of, position_P, token_P, set_I, chunks)
    token, together = _NextToken.apply(*arguments, of.hidden, of.weight_Vd, of.bias_V)
    return token, together


def _read(logits_nV: Tensor, token_n: Tensor, set_I: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """The log-normaliser and the two log-probabilities, which rounding does not lift above 0."""
    normaliser_n = logits_nV.logsumexp(-1)
    token = logits_nV.gather(1, token_n[:, None]).squeeze(1) - normaliser_n
    if set_I is None:
        return normaliser_n, token.clamp_max(0), torch.zeros_like(token)
    together = logits_nV.index_select(1, set_I).logsumexp(-1) - normaliser_n
    return normaliser_n, token.clamp_max(0), together.clamp_max(0)


class _NextToken(torch.autograd.Function):
    """The backward pass makes the logits again, and the probabilities from them and what normalises them."""

    @staticmethod
    def forward(
        ctx: Any,
        logits: Logits,
        position_P: Tensor,
        token_P: Tensor,
        set_I: Tensor | None,
        chunks: Chunks | None,
        *made_of: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        """log p of a token and of a set, [P] each; the second is 0 without a set."""
        made = LogitPass(logits)
        ctx.logits, ctx.size = logits.without_tensors(), chunks_for(logits, chunks).rows // made.vocabulary
        results = made.zero().new_empty(3, len(token_P))
        for chunk in slices(0, len(token_P), ctx.size):
            results[:, chunk] = torch.stack(_read(made.rows(position_P[chunk]), token_P[chunk], set_I))
        normaliser, token, together = results.unbind()
        ctx.save_for_backward(position_P, token_P, set_I, normaliser, together, *made_of)
        return token.clone(), together.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, of_token_P: Tensor, of_set_P: Tensor) -> tuple[Tensor | None, ...]:
        """d log p(y) / dz = 1_y - p, and d log p(set) / dz = p within the set - p."""
        position_P, token_P, set_I, normaliser_P, together_P, *made_of = ctx.saved_tensors
        made = LogitPass(ctx.logits.made_of(*made_of), ctx.needs_input_grad[5:])
        for chunk in slices(0, len(token_P), ctx.size):
            of_token_n1, of_set_n1 = of_token_P[chunk, None], of_set_P[chunk, None]
            logits_nV = made.rows(position_P[chunk])
            p_nV = (logits_nV - normaliser_P[chunk, None]).exp_()
            gradient_nV = p_nV * -(of_token_n1 if set_I is None else of_token_n1 + of_set_n1)
            gradient_nV.scatter_add_(1, token_P[chunk, None], of_token_n1)
            if set_I is not None:
                within_nI = p_nV.index_select(1, set_I) * (of_set_n1 * torch.exp(-together_P[chunk, None]))
                gradient_nV.index_add_(1, set_I, within_nI)
            made.put(position_P[chunk], logits_nV, gradient_nV)
        return None, None, None, None, None, *made.gradients_like(made_of)
