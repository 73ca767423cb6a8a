"""Decoding a batch's hidden states where they are read: once per batch, on its device."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from schemas.models.state_decoder import ArrayKey, StateDecoder
from trainer.data.batch import Batch
from trainer.data.encoded_states import EncodedStates


class DecodedAnswers(Mapping[Any, Any]):
    """The answers of a batch, of which encoded states are decoded when they are first read, and then kept."""

    def __init__(self, answers: Mapping[Any, Any], decoders: Mapping[ArrayKey, StateDecoder]):
        self._answers, self._decoders, self._decoded = answers, decoders, dict[Any, Tensor]()

    def __getitem__(self, request: Any) -> Any:
        answer = self._answers[request]
        if not isinstance(answer, EncodedStates):
            return answer
        if request not in self._decoded:
            with torch.no_grad():
                self._decoded[request] = answer.decode(self._decoders[answer.array])
        return self._decoded[request]

    def __iter__(self) -> Iterator[Any]:
        return iter(self._answers)

    def __len__(self) -> int:
        return len(self._answers)


def decoding(batch: Batch, decoders: Mapping[ArrayKey, StateDecoder]) -> Batch:
    """The same batch, whose encoded states are decoded by these, on their device, as they are read."""
    return replace(batch, answers=DecodedAnswers(batch.answers, decoders)) if decoders else batch
