"""MultiLevelOT by loops over tokens and positions."""

from typing import Any

import torch
from torch import Tensor

from schemas.configs.losses.multilevel_ot import MultiLevelOTConfig
from tests.trainer.objectives import naive
from tests.trainer.objectives.answers import whole_logits
from tests.trainer.objectives.predicting import student_positions, teacher_positions
from trainer.data.batch import Batch
from trainer.student.states import StudentStates


def leading(rows: list[Tensor], k: int, temperature: float) -> Any:
    """The k tokens with the largest sum of probabilities over the rows, largest first."""
    favour: Any = sum(torch.exp(naive.log_softmax(row.detach() / temperature)) for row in rows)
    return sorted(range(len(favour)), key=lambda v: -favour[v].item())[:k]


def chosen(rows: list[Tensor], tokens: list[int], temperature: float) -> Any:
    """log-probabilities of the tokens, over the whole vocabulary."""
    return [naive.log_softmax(row / temperature)[tokens] for row in rows]


def sinkhorn(cost: Any, regularisation: float, iterations: int) -> Any:
    """<P, C>, with the kernel itself divided by its row sums and then by its column sums (equation 19)."""
    kernel = torch.exp(-cost / regularisation)
    for _ in range(iterations):
        kernel = kernel / kernel.sum(1, keepdim=True)
        kernel = kernel / kernel.sum(0, keepdim=True)
    return (kernel * cost).sum()


def multilevel_ot(student: StudentStates, batch: Batch, logits: list[Tensor], config: MultiLevelOTConfig) -> Any:
    total = dict.fromkeys(("absolute", "logarithmic", "sinkhorn"), torch.zeros((), dtype=torch.float64))
    for b in range(len(batch.sample_ids)):
        own = [whole_logits(student)[b, s].double() for s in student_positions(batch, b)]
        theirs = [logits[b][t].double() for t in teacher_positions(batch, b)]
        if not own or not theirs:
            continue
        k = min(config.top_k, len(own[0]), len(theirs[0]))
        ours, other = leading(own, k, config.temperature), leading(theirs, k, config.temperature)
        for log_s, log_t in zip(
            chosen(own, ours, config.temperature), chosen(theirs, other, config.temperature), strict=False
        ):
            total["absolute"] = total["absolute"] + (torch.exp(log_t) - torch.exp(log_s)).abs().sum()
            total["logarithmic"] = total["logarithmic"] - (torch.exp(log_t) * log_s).sum()
        s = [torch.exp(row) for row in chosen(own, ours, config.sinkhorn_temperature)]
        t = [torch.exp(row) for row in chosen(theirs, other, config.sinkhorn_temperature)]
        cost = torch.stack([torch.stack([(t_i - s_j).abs().sum() for s_j in s]) for t_i in t])
        total["sinkhorn"] = total["sinkhorn"] + sinkhorn(cost, config.regularisation, config.iterations)
    return total
