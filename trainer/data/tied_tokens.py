"""Ties between the two sides' tokens, as requests: spans of the text, and places that are the same token.

Shapes: B samples, S student tokens, T teacher tokens, K spans.
"""

from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from trainer.alignment.labels import SpanChoice, label_spans
from trainer.alignment.token_pairs import token_positions
from trainer.data.on_device import OnDevice
from trainer.data.padding import lengths_mask, pad_rows
from trainer.data.request import BatchRequest, Drawn
from trainer.numerics.span_pooling import Members, membership


@dataclass(frozen=True)
class SpanSet(OnDevice):
    """Spans as labels: which span each token belongs to, or -1. A token belongs to one span at most."""

    student_BS: Tensor  # long
    teacher_BT: Tensor  # long
    mask_BK: Tensor  # bool: the span exists and has tokens on both sides; K is at least 1

    @cached_property
    def of_student(self) -> Members:
        """Made once for a batch, however many layers are pooled, and by however many losses."""
        return membership(self.student_BS, self.mask_BK)

    @cached_property
    def of_teacher(self) -> Members:
        """The same of the teacher's tokens."""
        return membership(self.teacher_BT, self.mask_BK)


@dataclass(frozen=True)
class Spans(SpanChoice, BatchRequest[SpanSet]):
    """Spans of the text, by the characters that the tokens of either side stand for."""

    def collate(self, drawn: Drawn) -> SpanSet:
        """Labels [B, S] and [B, T], and which of the K spans each sample has."""
        labelled = (label_spans(self, *row) for row in zip(drawn.samples, drawn.texts, strict=True))
        teacher, student, counts = zip(*labelled, strict=True)
        return SpanSet(
            student_BS=pad_rows(student, -1),
            teacher_BT=pad_rows(teacher, -1),
            mask_BK=lengths_mask(counts, max(1, *counts)),
        )


@dataclass(frozen=True)
class SameTokenPositions(BatchRequest[Tensor]):
    """[B, S] long: which of the teacher's tokens each of the student's is, or -1. For one shared tokenizer.

    Of a conversation in two templates only tokens of contents are; see `pair_contents`.
    """

    def collate(self, drawn: Drawn) -> Tensor:
        """[B, S] long. Raises PairingError, naming the sample, where the two sides' ids differ."""
        return pad_rows([token_positions(*row) for row in zip(drawn.samples, drawn.texts, strict=True)], -1)
