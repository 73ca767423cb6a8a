"""A batch's hidden states in float32 where they are read, decoded or cast: once per batch, on its device.

On their way there they take the bytes that they take on disk.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from schemas.models.state_decoder import ArrayKey, StateDecoder
from trainer.data.batch import Batch
from trainer.data.encoded_states import EncodedStates, JoinedStates

HALVES = (torch.bfloat16, torch.float16)


class DecodedAnswers(Mapping[Any, Any]):
    """The answers of a batch, of which states that are encoded or of another dtype become float32 when they are first
    read, and are then kept."""

    def __init__(self, answers: Mapping[Any, Any], decoders: Mapping[ArrayKey, StateDecoder]):
        self._answers, self._decoders, self._decoded = answers, decoders, dict[Any, Tensor]()

    def __getitem__(self, request: Any) -> Any:
        answer = self._answers[request]
        if not _is_stored(answer):
            return answer
        if request not in self._decoded:
            with torch.no_grad():
                self._decoded[request] = self._decode(answer)
        return self._decoded[request]

    def _decode(self, answer: Tensor | EncodedStates | JoinedStates) -> Tensor:
        return answer.float() if isinstance(answer, Tensor) else answer.decoded(self._decoders)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._answers)

    def __len__(self) -> int:
        return len(self._answers)


def decoding(batch: Batch, decoders: Mapping[ArrayKey, StateDecoder]) -> Batch:
    """The same batch, whose states become float32 as they are read, on their device: by these if they are encoded."""
    is_needed = any(map(_is_stored, batch.answers.values()))
    return replace(batch, answers=DecodedAnswers(batch.answers, decoders)) if is_needed else batch


def _is_stored(answer: Any) -> bool:
    return isinstance(answer, EncodedStates | JoinedStates) or (isinstance(answer, Tensor) and answer.dtype in HALVES)
