"""A batch, as one training step sees it: the tokens of both sides, and the answers to what the losses asked for.

Shapes: B samples, S student tokens, T teacher tokens. Padding is on the right.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor

from trainer.data.on_device import OnDevice
from trainer.data.packing import Packing
from trainer.data.request import BatchRequest, answer_of
from trainer.data.teacher_logits import TeacherLogits
from trainer.data.tied_tokens import SameTokenPositions

T = TypeVar("T")
Divisor = Literal["token", "pair", "shared", "sample"]


@dataclass(frozen=True)
class Batch(OnDevice):
    """A padded batch. `batch[request]` is the answer to what was asked for when the batch was built."""

    sample_ids: tuple[str, ...]
    tokens_BS: Tensor  # long
    mask_BS: Tensor  # bool: text; neither padding nor an end of sequence that is only a target
    target_BS: Tensor  # bool: token s is a target of cross-entropy, predicted from the state at s - 1; never at s = 0
    teacher_tokens_BT: Tensor  # long
    teacher_mask_BT: Tensor  # bool
    teacher_target_BT: Tensor  # bool: the teacher predicts token t from its state at t - 1, as the student its targets
    answers: Mapping[BatchRequest[Any], Any]
    packing: Packing | None = None  # how the student reads it without its padding; None for as it is
    teacher_logits: TeacherLogits = field(default_factory=TeacherLogits, compare=False, repr=False)

    def __getitem__(self, request: BatchRequest[T]) -> T:
        """Raises RunError if `request` is not among those that the batch was built for."""
        answer: T = answer_of(self.answers, request)
        return answer

    def count(self, divisor: Divisor) -> int:
        """How many of these the batch has, which is known before any forward pass: a loss is divided by them.

        token: cross-entropy targets. pair: those that the teacher predicts at the same place. shared: tokens of the
        text that are the same on both sides. sample: samples.
        """
        if divisor == "token":
            return int(self.target_BS.sum())
        if divisor == "pair":
            return int(self.shared_predictions().sum())
        if divisor == "shared":
            return int(self.shared_tokens().sum())
        return len(self.sample_ids)

    def shared_tokens(self) -> Tensor:
        """[B, S] bool: a token of the text that the teacher has at a place of its own. Needs `SameTokenPositions`."""
        return self.mask_BS & (self[SameTokenPositions()] >= 0)

    def shared_predictions(self) -> Tensor:
        """[B, S] bool, at s: the state at s predicts a target, and the teacher's state at the same token predicts it.

        The end of sequence is among them, whether or not the teacher was fed one: when to stop is worth learning.
        Needs `SameTokenPositions`.
        """
        shared_BS = torch.zeros_like(self.target_BS)
        shared_BS[:, :-1] = self.target_BS[:, 1:] & (self[SameTokenPositions()][:, :-1] >= 0)
        return shared_BS
