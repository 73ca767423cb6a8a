"""Which target range every token of a batch belongs to, as a request.

Shapes: B samples, S student tokens, T teacher tokens.
"""

from dataclasses import dataclass

from torch import Tensor

from trainer.alignment.target_tokens import label_targets
from trainer.data.on_device import OnDevice
from trainer.data.padding import pad_rows
from trainer.data.request import BatchRequest, Drawn


@dataclass(frozen=True)
class RangeLabels(OnDevice):
    """The number of the target range that each target belongs to, or -1, by `target_labels`. Numbers ascend."""

    student_BS: Tensor  # long
    teacher_BT: Tensor  # long


@dataclass(frozen=True)
class TargetRanges(BatchRequest[RangeLabels]):
    """The target ranges of either side's tokens: the turns of a conversation that are learnt, or one response."""

    def collate(self, drawn: Drawn) -> RangeLabels:
        """Labels [B, S] and [B, T]."""
        teacher, student = zip(*map(label_targets, drawn.samples, drawn.texts), strict=True)
        return RangeLabels(student_BS=pad_rows(student, -1), teacher_BT=pad_rows(teacher, -1))
