"""The tokens that a sequence's predictions favour most, and their log-probabilities, without a [tokens x vocabulary]
matrix of either side: logits live a chunk of rows at a time, and are computed twice.

Shapes: B samples, X student positions, V vocabulary, R rows, sample after sample; k tokens, Z temperatures; n rows of
one chunk.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from trainer.objectives.kernels.chunks import Chunks, chunks_for, slices
from trainer.objectives.kernels.logit_pass import LogitPass
from trainer.student.logits import Logits, as_logits

RowLogits = Callable[[slice], Tensor]  # logits [n, V] of some rows


@dataclass(frozen=True)
class LeadingTokens:
    """The k leading tokens of every row's sample, and what normalises the row."""

    ids_Rk: Tensor
    normaliser_ZR: Tensor  # log sum_v exp(z_v / tau)


@torch.no_grad()
def leading_tokens(
    row_logits: RowLogits,
    counts: Sequence[int],
    vocabulary: int,
    k: int,
    temperatures: Sequence[float],
    like: Tensor | Logits,
    chunks: Chunks | None = None,
) -> LeadingTokens:
    """Of each sample the k tokens with the most probability in sum over its rows (`counts` of them), likeliest first.

    Probabilities are those at the first temperature. `like` gives dtype and device.
    """
    dtype, device = torch.promote_types(like.dtype, torch.float32), like.device
    ids = [torch.empty(0, k, dtype=torch.long, device=device)]
    normalisers, start = [torch.empty(len(temperatures), 0, device=device)], 0
    for count in counts:
        if not count:
            continue
        favour_V = torch.zeros(vocabulary, dtype=dtype, device=device)
        for chunk in slices(start, start + count, chunks_for(like, chunks).rows // vocabulary):
            logits_nV = row_logits(chunk).to(dtype)
            normaliser_Zn = torch.stack([(logits_nV / temperature).logsumexp(-1) for temperature in temperatures])
            favour_V += (logits_nV / temperatures[0] - normaliser_Zn[0, :, None]).exp_().sum(0)
            normalisers.append(normaliser_Zn)
        ids.append(favour_V.topk(k).indices.expand(count, k))
        start += count
    return LeadingTokens(torch.cat(ids), torch.cat([part.to(dtype) for part in normalisers], 1))


def log_probabilities(
    logits: Tensor | Logits,
    position_R: Tensor,
    leading: LeadingTokens,
    temperatures: Sequence[float],
    chunks: Chunks | None = None,
) -> Tensor:
    """log softmax(z / tau) of the leading tokens, [Z, R, k], with a gradient to `logits`, [X, V]; positions are
    distinct."""
    of = as_logits(logits)
    arguments = (of, position_R, leading, tuple(temperatures), chunks)
    log_q_ZRk: Tensor = _LogProbabilities.apply(*arguments, of.hidden, of.weight_Vd, of.bias_V)
    return log_q_ZRk


class _LogProbabilities(torch.autograd.Function):
    """A gradient g to log q sends (g - q sum_i g_i) / tau to the logits, which the backward pass makes again."""

    @staticmethod
    def forward(
        ctx: Any,
        logits: Logits,
        position_R: Tensor,
        leading: LeadingTokens,
        temperatures: tuple[float, ...],
        chunks: Chunks | None,
        *made_of: Tensor | None,
    ) -> Tensor:
        """[Z, R, k] at Z temperatures, of R positions in logits [X, V]."""
        made = LogitPass(logits)
        ctx.save_for_backward(position_R, leading.ids_Rk, leading.normaliser_ZR, *made_of)
        ctx.logits, ctx.temperatures = logits.without_tensors(), temperatures
        ctx.size = chunks_for(logits, chunks).rows // made.vocabulary
        logits_Rk = leading.normaliser_ZR.new_empty(leading.ids_Rk.shape)
        for chunk in slices(0, len(position_R), ctx.size):
            logits_Rk[chunk] = made.rows(position_R[chunk]).gather(1, leading.ids_Rk[chunk]).to(logits_Rk.dtype)
        scaled_ZRk = torch.stack([logits_Rk / temperature for temperature in temperatures])
        return scaled_ZRk - leading.normaliser_ZR[:, :, None]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream_ZRk: Tensor) -> tuple[Tensor | None, ...]:
        """(g - q sum_i g_i) / tau, summed over the temperatures, [X, V], and through the head."""
        position_R, ids_Rk, normaliser_ZR, *made_of = ctx.saved_tensors
        made = LogitPass(ctx.logits.made_of(*made_of), ctx.needs_input_grad[5:])
        for chunk in slices(0, len(position_R), ctx.size):
            logits_nV = made.rows(position_R[chunk])
            wide_nV = logits_nV.to(normaliser_ZR.dtype)
            gradient_nV = torch.zeros_like(wide_nV)
            for z, temperature in enumerate(ctx.temperatures):
                upstream_nk = upstream_ZRk[z, chunk] / temperature
                q_nV = (wide_nV / temperature - normaliser_ZR[z, chunk, None]).exp_()
                gradient_nV -= q_nV.mul_(upstream_nk.sum(-1, keepdim=True))
                gradient_nV.scatter_(1, ids_Rk[chunk], gradient_nV.gather(1, ids_Rk[chunk]) + upstream_nk)
            made.put(position_R[chunk], logits_nV, gradient_nV)
        return None, None, None, None, None, *made.gradients_like(made_of)
