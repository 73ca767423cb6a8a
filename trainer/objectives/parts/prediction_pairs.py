"""Which predictions of two models over one text are compared with each other, if their tokenizers cut it differently.

A prediction is named by the state that makes it: position x predicts token x + 1. It belongs to the target range of
that token. What both sides predict of one range are two sequences, which are paired by order or as wholes; never across
ranges, so a conversation is worth what its turns are worth one by one.

Shapes: B samples, N target ranges of the sample that has most, S student tokens, T teacher tokens, X tokens of either
side, K spans, R pairs.
"""

import torch
from torch import Tensor
from torch.nn.functional import pad

from trainer.data.batch import Batch
from trainer.data.target_ranges import TargetRanges
from trainer.data.tied_tokens import SpanSet


def predictions(batch: Batch) -> tuple[Tensor, Tensor]:
    """[B, S] and [B, T] bool: the positions from which student and teacher predict a target.

    The end of sequence is among them on both sides or on none. A teacher that was not fed one still says, from its last
    state, how likely it is; and when to stop is worth learning.
    """
    last_BT = batch.teacher_mask_BT & ~_before(batch.teacher_mask_BT, False)
    unfed_B1 = _unfed(batch).any(1, keepdim=True)
    return _before(batch.target_BS, False), _before(batch.teacher_target_BT, False) | (last_BT & unfed_B1)


def predictions_by_range(batch: Batch) -> tuple[Tensor, Tensor]:
    """[B, N, S] and [B, N, T] bool: the same for every target range. Needs `TargetRanges`.

    What a teacher was not fed it predicts in the range in which it is the student's target.
    """
    (student_BS, teacher_BT), ranges = predictions(batch), batch[TargetRanges()]
    range_BS, range_BT = _before(ranges.student_BS, -1), _before(ranges.teacher_BT, -1)
    unfed_B1 = ranges.student_BS.masked_fill(~_unfed(batch), -1).amax(1, keepdim=True)
    range_BT = torch.where(teacher_BT & ~_before(batch.teacher_target_BT, False), unfed_B1, range_BT)
    number_N1 = torch.arange(1 + max(0, int(range_BS.max()), int(range_BT.max())), device=range_BS.device)[:, None]
    student_BNS, teacher_BNT = (
        (range_BX[:, None] == number_N1) & x_BX[:, None]
        for range_BX, x_BX in ((range_BS, student_BS), (range_BT, teacher_BT))
    )
    return student_BNS, teacher_BNT


def paired_by_order(student_BNS: Tensor, teacher_BNT: Tensor) -> tuple[Tensor, Tensor]:
    """In every range the k-th prediction of one side with the k-th of the other, up to the shorter: flat positions, [R]
    and [R]."""
    count_BN1 = torch.minimum(student_BNS.sum(2, keepdim=True), teacher_BNT.sum(2, keepdim=True))
    student_R, teacher_R = (positions(x_BNX & (x_BNX.cumsum(2) <= count_BN1)) for x_BNX in (student_BNS, teacher_BNT))
    return student_R, teacher_R


def positions(predicts_BNX: Tensor) -> Tensor:
    """[R]: flat positions in a [B, X] tensor, sample after sample and range after range."""
    sample_R, _, position_R = predicts_BNX.nonzero(as_tuple=True)
    return sample_R * predicts_BNX.shape[2] + position_R


def paired_by_span(student_BS: Tensor, teacher_BT: Tensor, spans: SpanSet) -> tuple[Tensor, Tensor]:
    """Those made at the ends of aligned spans, where both sides have read the same: flat positions, [R] and [R]."""
    student_BK, teacher_BK = (_ends(label_BX, spans.mask_BK) for label_BX in (spans.student_BS, spans.teacher_BT))
    both_BK = spans.mask_BK & student_BS.gather(1, student_BK) & teacher_BT.gather(1, teacher_BK)
    sample_R, span_R = both_BK.nonzero(as_tuple=True)
    student_R = sample_R * student_BS.shape[1] + student_BK[sample_R, span_R]
    return student_R, sample_R * teacher_BT.shape[1] + teacher_BK[sample_R, span_R]


def _unfed(batch: Batch) -> Tensor:
    """[B, S] bool: a target and no text, an end of sequence that the teacher's tokens do not have."""
    return batch.target_BS & ~batch.mask_BS


def _before(of_token_BX: Tensor, nothing: bool | int) -> Tensor:
    """At x, what is said of token x + 1; `nothing` at the end."""
    return pad(of_token_BX[:, 1:], (0, 1), value=nothing)


def _ends(label_BX: Tensor, mask_BK: Tensor) -> Tensor:
    """The last token of every span, [B, K]; 0 for a span without tokens."""
    position_BX = torch.arange(label_BX.shape[1], device=label_BX.device).expand_as(label_BX)
    end_BK = torch.zeros_like(mask_BK, dtype=torch.long)
    inside_BX = label_BX >= 0
    return end_BK.scatter_reduce(1, label_BX.clamp_min(0), torch.where(inside_BX, position_BX, 0), "amax")
