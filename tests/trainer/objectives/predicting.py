"""Which states predict the response, and what a teacher predicts from its cached states, one position at a time."""

from typing import Any

import torch
from torch import Tensor

from tests.trainer.objectives import naive
from tests.trainer.objectives.answers import by_layer
from trainer.data.batch import Batch
from trainer.data.teacher_states import TeacherHidden


def student_positions(batch: Batch, b: int) -> list[int]:
    return [s for s in range(batch.tokens_BS.shape[1] - 1) if batch.target_BS[b, s + 1]]


def teacher_positions(batch: Batch, b: int) -> list[int]:
    """An end of sequence that only the student has is predicted by the teacher's last state."""
    only_target = any(batch.target_BS[b, s] and not batch.mask_BS[b, s] for s in range(batch.tokens_BS.shape[1]))
    length = int(batch.teacher_mask_BT[b].sum())
    found = [t for t in range(batch.teacher_tokens_BT.shape[1] - 1) if batch.teacher_target_BT[b, t + 1]]
    return [*found, length - 1] if only_target and length - 1 not in found else found


def teacher_logits(head: Any, batch: Batch, layer: int) -> list[Tensor]:
    """[T, W] of every sample in float64, state by state."""
    states = by_layer(batch, TeacherHidden)[layer].double()
    return [torch.stack([naive.head_logits(head, state) for state in row]) for row in states]
