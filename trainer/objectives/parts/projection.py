"""P in R^{d_S x d_T}, which carries student states into the teacher's space."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from schemas.configs.losses.base import Projection

SMALL = 1e-3  # standard deviation


def projection_matrix(student_width: int, teacher_width: int, config: Projection) -> nn.Parameter:
    """[d_S, d_T] in float32, drawn from torch's global generator: the run's seed decides it."""
    matrix = nn.Parameter(torch.empty(student_width, teacher_width, dtype=torch.float32))
    match config.init:
        case "orthogonal":
            nn.init.orthogonal_(matrix)
        case "xavier":
            nn.init.xavier_uniform_(matrix)
        case "linear":
            nn.init.uniform_(matrix, -(student_width**-0.5), student_width**-0.5)
        case "small":
            nn.init.normal_(matrix, std=SMALL)
    return matrix


def projection_biases(
    names: Iterable[str], student_width: int, teacher_width: int, config: Projection
) -> nn.ParameterDict:
    """One bias [d_T] for each projection, or none at all; it starts at 0, or with `init: linear` as torch has it."""
    found = nn.ParameterDict()
    for name in names if config.bias else ():
        found[name] = nn.Parameter(torch.zeros(teacher_width))
        if config.init == "linear":
            nn.init.uniform_(found[name], -(student_width**-0.5), student_width**-0.5)
    return found


def project(hidden_BXd: Tensor, projection_de: Tensor, bias_e: Tensor | None) -> Tensor:
    """H P, or H P + b: [B, X, d_T]."""
    projected_BXe = hidden_BXd @ projection_de
    return projected_BXe if bias_e is None else projected_BXe + bias_e


def projection_groups(params: Iterable[nn.Parameter], config: Projection) -> list[dict[str, object]]:
    """One group at the projections' own learning rate and decay, or none if there are no projections."""
    group = list(params)
    return [{"params": group, "lr": config.lr, "weight_decay": config.weight_decay}] if group else []
