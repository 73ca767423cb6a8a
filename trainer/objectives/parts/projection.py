"""P in R^{d_S x d_T}, which carries student states into the teacher's space: learned, without bias or weight decay."""

from collections.abc import Iterable

import torch
from torch import nn

from schemas.configs.losses.base import Projection


def projection_matrix(student_width: int, teacher_width: int, config: Projection) -> nn.Parameter:
    """[d_S, d_T] in float32, drawn from torch's global generator: the run's seed decides it."""
    matrix = nn.Parameter(torch.empty(student_width, teacher_width, dtype=torch.float32))
    if config.init == "orthogonal":
        nn.init.orthogonal_(matrix)
    else:
        nn.init.xavier_uniform_(matrix)
    return matrix


def projection_groups(matrices: Iterable[nn.Parameter], config: Projection) -> list[dict[str, object]]:
    """One AdamW group at the projections' own learning rate, or none if there are no projections."""
    params = list(matrices)
    return [{"params": params, "lr": config.lr, "weight_decay": 0.0}] if params else []
