"""Which predictions of two models over one text are compared with each other, if their tokenizers cut it differently.

A prediction is named by the state that makes it: position x predicts token x + 1.

Shapes: B samples, S student tokens, T teacher tokens, X tokens of either side, K spans, R pairs.
"""

import torch
from torch import Tensor
from torch.nn.functional import pad

from trainer.data.batch import Batch
from trainer.data.tied_tokens import SpanSet


def predictions(batch: Batch) -> tuple[Tensor, Tensor]:
    """[B, S] and [B, T] bool: the positions from which student and teacher predict the response.

    The end of sequence is among them on both sides or on none. A teacher that was not fed one still says, from its last
    state, how likely it is; and when to stop is worth learning.
    """
    unfed_B1 = (batch.target_BS & ~batch.mask_BS).any(1, keepdim=True)  # a target and no text
    last_BT = batch.teacher_mask_BT & ~_before(batch.teacher_mask_BT)
    return _before(batch.target_BS), _before(batch.teacher_target_BT) | (last_BT & unfed_B1)


def paired_by_order(student_BS: Tensor, teacher_BT: Tensor) -> tuple[Tensor, Tensor]:
    """The k-th prediction of one side with the k-th of the other, up to the shorter: flat positions, [R] and [R]."""
    count_B1 = torch.minimum(student_BS.sum(1, keepdim=True), teacher_BT.sum(1, keepdim=True))
    student_R, teacher_R = (
        (x_BX & (x_BX.cumsum(1) <= count_B1)).flatten().nonzero().squeeze(1) for x_BX in (student_BS, teacher_BT)
    )
    return student_R, teacher_R


def paired_by_span(student_BS: Tensor, teacher_BT: Tensor, spans: SpanSet) -> tuple[Tensor, Tensor]:
    """Those made at the ends of aligned spans, where both sides have read the same: flat positions, [R] and [R]."""
    student_BK, teacher_BK = (_ends(label_BX, spans.mask_BK) for label_BX in (spans.student_BS, spans.teacher_BT))
    both_BK = spans.mask_BK & student_BS.gather(1, student_BK) & teacher_BT.gather(1, teacher_BK)
    sample_R, span_R = both_BK.nonzero(as_tuple=True)
    student_R = sample_R * student_BS.shape[1] + student_BK[sample_R, span_R]
    return student_R, sample_R * teacher_BT.shape[1] + teacher_BK[sample_R, span_R]


def _before(marked_BX: Tensor) -> Tensor:
    """At x: x + 1 is marked."""
    return pad(marked_BX[:, 1:], (0, 1))


def _ends(label_BX: Tensor, mask_BK: Tensor) -> Tensor:
    """The last token of every span, [B, K]; 0 for a span without tokens."""
    position_BX = torch.arange(label_BX.shape[1], device=label_BX.device).expand_as(label_BX)
    end_BK = torch.zeros_like(mask_BK, dtype=torch.long)
    inside_BX = label_BX >= 0
    return end_BK.scatter_reduce(1, label_BX.clamp_min(0), torch.where(inside_BX, position_BX, 0), "amax")
