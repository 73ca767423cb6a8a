"""Makers of the numbers of a state kind from one forward pass, and the registry of all that do.

A kind is made from the states of a batch (`StatesMaker`) or from its next-token logits (`LogitsMaker`), which are
computed a few rows at a time and once for all kinds that want them.

Shapes: B samples, T tokens, N real tokens of a batch, K of them that are kept, R of them at a time, V vocabulary, d
hidden size.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from pipeline.corpus.sample import AnnotatedSample
from schemas.cache.arrays import ArrayRecord, by_kind
from schemas.cache.encoding_cost import EncodingCost
from schemas.cache.states import Values
from schemas.cache.teacher import TeacherRecord
from schemas.errors import ConfigError
from schemas.form import require_subclass
from schemas.models.attention_readings import Reading
from schemas.registry import Registry
from schemas.strict import Strict


@dataclass(frozen=True)
class BatchStates:
    """One forward pass, on the teacher's device."""

    hidden: Mapping[int, Tensor]  # layer -> [B, T, d]: the layers that makers asked for, and the last
    mass: Mapping[int, Tensor]  # layer -> [B, T]: the layers that makers asked for
    mask_BT: Tensor  # bool: real tokens
    real_N: Tensor  # long: where they lie in [B * T], in order
    attention: Mapping[tuple[Reading, int], Tensor] = field(default_factory=dict)  # of what makers asked for

    def real(self, states_BTx: Tensor) -> Tensor:
        """[N, x]: the rows of real tokens, concatenated."""
        return states_BTx.flatten(0, 1).index_select(0, self.real_N)


class Maker(ABC):
    """Makes the arrays of one state kind. It is built once per teacher, and used for every batch."""

    name: ClassVar[str]
    """The kind's name, as in schemas.cache.kinds."""

    def __init__(self, arrays: Sequence[ArrayRecord], record: Any):
        """`arrays` are the kind's own, as cache.json lists them; `record` is what it says of them, or None."""
        self.arrays, self.record = arrays, record

    @property
    def makes(self) -> Sequence[ArrayRecord]:
        """The arrays of plain numbers that it makes: its kind's own, unless `pack` makes those of them."""
        return self.arrays

    def pack(
        self, made: Mapping[str, np.ndarray], teacher: TeacherRecord
    ) -> tuple[Mapping[str, Values], Mapping[str, EncodingCost]]:
        """Its kind's arrays, as their codecs take them, of a unit's rows of what it makes; what they lose. By path."""
        return {array.path: made[array.path] for array in self.arrays}, {}

    @property
    def hidden_layers(self) -> frozenset[int]:
        """Layers whose hidden states must be collected; the last is always there."""
        return frozenset()

    @property
    def mass_layers(self) -> frozenset[int]:
        """Layers whose token masses must be collected."""
        return frozenset()

    @property
    def attention_layers(self) -> Mapping[Reading, frozenset[int]]:
        """Layers whose attention must be read, by what is read of it."""
        return {}


class StatesMaker(Maker):
    """Makes its arrays from a batch's hidden states and attention."""

    @abstractmethod
    def make(self, array: ArrayRecord, states: BatchStates) -> Tensor:
        """Rows of one array, [rows] or [rows, width]: of the batch's real tokens, of its samples, or of the pairs of
        real tokens of each, sample after sample."""


Cut = Callable[[Tensor, slice], Sequence[Tensor]]


def tempered(logits_RV: Tensor, temperature: float) -> Tensor:
    """z / temperature, which is z itself at 1: a pass over the vocabulary is spared."""
    return logits_RV if temperature == 1 else logits_RV / temperature


class LogitsMaker(Maker):
    """Makes its arrays from the teacher's next-token logits."""

    @abstractmethod
    def begin(self, samples: Sequence[AnnotatedSample], device: torch.device) -> Cut:
        """How logits of one batch become rows of the arrays: a function of logits [R, V], float32, and of which of the
        batch's N real tokens they are, or of its K kept ones if the kind follows the subset.

        It gives, for each array of `makes` in order, [R] or [R, width].
        """


MAKERS: Registry[type[Maker]] = Registry(
    "maker of a state kind",
    "pipeline.teacher.kinds",
    "MAKER",
    "stillroom.state_makers",
    partial(require_subclass, base=Maker),
)


def build_makers(arrays: Sequence[ArrayRecord], records: Mapping[str, Strict]) -> Iterator[Maker]:
    """A maker for each kind that `arrays` are of. Raises ConfigError for a kind that nobody makes."""
    for name, own in by_kind(arrays).items():
        if name not in MAKERS:
            raise ConfigError(
                f"states.{name}: its package says how it is stored and not how it is made; it needs an entry point of "
                f"the group {MAKERS.group} beside that of the group stillroom.state_kinds"
            )
        yield MAKERS[name](own, records.get(name))
