"""ULD by loops over sorted probabilities."""

from typing import Any

import torch
from torch import Tensor

from schemas.configs.losses.uld import ULDConfig
from tests.trainer.objectives import naive
from tests.trainer.objectives.answers import whole_logits
from tests.trainer.objectives.predicting import student_positions, teacher_positions
from trainer.data.batch import Batch
from trainer.data.tied_tokens import Spans
from trainer.student.states import StudentStates


def distance(student: Tensor, teacher: Tensor, temperature: float) -> Any:
    """sum_i |q^(i) - p^(i)| of two vectors of logits."""
    sides = [torch.exp(naive.log_softmax(z / temperature)) for z in (student, teacher)]
    q, p = (sorted(side, key=torch.Tensor.item, reverse=True) for side in sides)
    total = torch.zeros((), dtype=student.dtype)
    for i in range(max(len(q), len(p))):
        total = total + abs((q[i] if i < len(q) else 0.0) - (p[i] if i < len(p) else 0.0))
    return total


def pairs_of(batch: Batch, config: ULDConfig, b: int) -> list[tuple[int, int]]:
    own, theirs = student_positions(batch, b), teacher_positions(batch, b)
    if config.pairs == "order":
        return list(zip(own, theirs, strict=False))
    spans = naive.spans_of(batch[Spans("aligned", "text")], b)
    ends = [(tokens[-1], their_tokens[-1]) for tokens, their_tokens in spans]
    return [(s, t) for s, t in ends if s in own and t in theirs]


def uld(student: StudentStates, batch: Batch, logits: list[Tensor], config: ULDConfig) -> Any:
    total = torch.zeros((), dtype=torch.float64)
    for b in range(len(batch.sample_ids)):
        pairs = pairs_of(batch, config, b)
        for s, t in pairs:
            part = distance(whole_logits(student)[b, s].double(), logits[b][t], config.temperature)
            total = total + (part / len(pairs) if config.normalise == "sample" else part)
    return total
