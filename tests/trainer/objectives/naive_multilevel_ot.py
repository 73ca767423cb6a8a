"""MultiLevelOT by loops over tokens, positions and the Sinkhorn matrix."""

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
    rows, columns = range(len(cost)), range(len(cost[0]))
    kernel = [[torch.exp(-cost[i][j] / regularisation) for j in columns] for i in rows]
    for _ in range(iterations):
        sums = [sum(kernel[i]) for i in rows]
        kernel = [[kernel[i][j] / sums[i] for j in columns] for i in rows]
        sums = [sum(kernel[i][j] for i in rows) for j in columns]
        kernel = [[kernel[i][j] / sums[j] for j in columns] for i in rows]
    return sum(kernel[i][j] * cost[i][j] for i in rows for j in columns)


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
            for i in range(k):
                total["absolute"] = total["absolute"] + abs(torch.exp(log_t[i]) - torch.exp(log_s[i]))
                total["logarithmic"] = total["logarithmic"] - torch.exp(log_t[i]) * log_s[i]
        s = [torch.exp(row) for row in chosen(own, ours, config.sinkhorn_temperature)]
        t = [torch.exp(row) for row in chosen(theirs, other, config.sinkhorn_temperature)]
        cost = [[sum(abs(t_i[n] - s_j[n]) for n in range(k)) for s_j in s] for t_i in t]
        total["sinkhorn"] = total["sinkhorn"] + sinkhorn(cost, config.regularisation, config.iterations)
    return total
