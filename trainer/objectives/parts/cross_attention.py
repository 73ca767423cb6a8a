"""Cross-model attention (DSKD, arXiv 2406.17328, section 3.3): which tokens of the other model a token stands for.

The attention sees a token as the pair (token read, token to be predicted) in its own model's input embeddings, so the
links depend only on the texts, never on states. They are learned through what is carried along them. Costs, for
each of the two directions, an S x T matrix per sample.

Shapes: B samples, S student tokens, T teacher tokens, X and Y tokens of either side, d any width.
"""

import math

import torch
from torch import Tensor, nn

from schemas.configs.losses.dskd import Projectors
from trainer.numerics.geometry import ZERO_NORM


def projector(width_in: int, width_out: int, config: Projectors) -> nn.Linear:
    """A linear map in float32, drawn from torch's global generator: the run's seed decides it."""
    linear = nn.Linear(width_in, width_out, bias=config.bias, dtype=torch.float32)
    if config.init != "linear":
        init = nn.init.orthogonal_ if config.init == "orthogonal" else nn.init.xavier_uniform_
        init(linear.weight)
        if linear.bias is not None:
            nn.init.zeros_(linear.bias)
    return linear


def index_embeddings(embedded_BXd: Tensor) -> Tensor:
    """[e_x; e_{x+1}], [B, X, 2d]: the token that is read beside the one to be predicted. The last has none."""
    return torch.cat([embedded_BXd, following(embedded_BXd)], -1)


def following(values: Tensor) -> Tensor:
    """[B, X, ...]: at x, the value at x + 1. What rolls round to the end belongs to nothing and must be masked."""
    return values.roll(-1, dims=1)


def over_deviation(x_BXd: Tensor, mask_BX: Tensor) -> Tensor:
    """N(x) = x / std(x), std over all numbers of a sample's tokens in `mask_BX`; 0 outside, whatever stands there, and
    where nothing varies.

    The reference takes one std over the padded batch, padding and prompts included, which would make a sample's loss
    depend on its neighbours.
    """
    mask_BX1 = mask_BX[..., None]
    real_BXd = torch.where(mask_BX1, x_BXd, 0.0)
    count_B11 = mask_BX1.to(x_BXd.dtype).sum((1, 2), keepdim=True) * x_BXd.shape[-1]
    mean_B11 = real_BXd.sum((1, 2), keepdim=True) / count_B11.clamp_min(1)
    square_B11 = torch.where(mask_BX1, real_BXd - mean_B11, 0.0).square().sum((1, 2), keepdim=True)
    variance_B11 = square_B11 / (count_B11 - 1).clamp_min(1)
    varied_B11 = variance_B11 > ZERO_NORM
    return real_BXd * torch.where(varied_B11, torch.where(varied_B11, variance_B11, 1.0).rsqrt(), 0.0)


def attend(score_BXY: Tensor, mask_BY: Tensor) -> Tensor:
    """softmax over the y in `mask_BY`, [B, X, Y]: what is carried to each x. All 0 in a sample that has none."""
    among_B1Y = mask_BY[:, None, :]
    # The least finite number, not -inf: a sample without any must not become NaN.
    return score_BXY.masked_fill(~among_B1Y, torch.finfo(score_BXY.dtype).min).softmax(-1) * among_B1Y


class CrossModelAttention(nn.Module):
    """a = Q K^T / sqrt(2 d_T), Q = P_q [e^S_s; e^S_{s+1}], K = N([e^T_t; e^T_{t+1}]): the one learned part is P_q."""

    def __init__(self, student_width: int, teacher_width: int, config: Projectors):
        super().__init__()
        self.query = projector(2 * student_width, 2 * teacher_width, config)

    def forward(self, student_BSd: Tensor, teacher_BTe: Tensor, teacher_mask_BT: Tensor) -> Tensor:
        """Scores [B, S, T] of two models' input embeddings; `teacher_mask_BT` are the positions that N looks at."""
        key_BTk = over_deviation(index_embeddings(teacher_BTe), teacher_mask_BT)
        query_BSk = self.query(index_embeddings(student_BSd))
        return torch.matmul(query_BSk, key_BTk.mT) / math.sqrt(key_BTk.shape[-1])
