"""The numbers of an import as arrays of a cache: top-k distributions, packed, or hidden states as they are."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from pipeline.importing.layout import LAYOUTS
from pipeline.importing.samples import ImportedSample
from pipeline.importing.teacher import LastParts
from schemas.cache.arrays import KINDS, ArrayRecord
from schemas.cache.encoding_cost import EncodingCost
from schemas.cache.kinds.hidden import HiddenSettings
from schemas.cache.kinds.top_k import TopK, TopKConfig
from schemas.cache.states import Values
from schemas.cache.teacher import TeacherRecord
from schemas.configs.importing import ImportConfig
from schemas.errors import ConfigError, CorpusError
from schemas.strict import Strict


class Numbers(ABC):
    """What is kept of the samples of one import, all of one kind."""

    def __init__(self, config: ImportConfig, teacher: TeacherRecord):
        self.config, self.teacher = config, teacher

    @abstractmethod
    def see(self, sample: ImportedSample) -> None:
        """Every sample comes by here before anything else is asked. Raises CorpusError for one of other numbers."""

    @abstractmethod
    def arrays(self) -> list[ArrayRecord]:
        """Of every shard. Raises ConfigError."""

    def records(self) -> Mapping[str, Strict]:
        """How they were made, by the name of their kind."""
        return {}

    @abstractmethod
    def plain(self, sample: ImportedSample) -> Mapping[str, np.ndarray]:
        """A sample's numbers before they are packed."""

    @abstractmethod
    def pack(self, samples: Sequence[ImportedSample]) -> tuple[Mapping[str, Values], Mapping[str, EncodingCost]]:
        """The arrays of a shard by path, as their codecs take them, and what packing lost."""


class TopKNumbers(Numbers):
    """Distributions; see `schemas.cache.kinds.top_k`."""

    entries = 0

    def see(self, sample: ImportedSample) -> None:
        """See `Numbers.see`."""
        self.entries = sample.numbers.ids_nk.shape[1]

    def arrays(self) -> list[ArrayRecord]:
        """See `Numbers.arrays`."""
        return self._kind.list_arrays(self._settings, "float32", self.teacher)

    def records(self) -> Mapping[str, Strict]:
        """See `Numbers.records`."""
        return {"top_k": self._kind.make_record(self._settings, self.teacher)}

    def plain(self, sample: ImportedSample) -> Mapping[str, np.ndarray]:
        """See `Numbers.plain`."""
        return {"ids": sample.numbers.ids_nk, "logprobs": sample.numbers.values_nE}

    def pack(self, samples: Sequence[ImportedSample]) -> tuple[Mapping[str, Values], Mapping[str, EncodingCost]]:
        """See `Numbers.pack`."""
        record, arrays = self._kind.make_record(self._settings, self.teacher), self.arrays()
        ids_Nk, values_NE = (
            np.concatenate([self.plain(sample)[name] for sample in samples]) for name in ("ids", "logprobs")
        )
        packed = self._kind.pack(ids_Nk, values_NE, record, self.teacher)
        cost = self._kind.find_loss([ids_Nk, values_NE], packed, record, self.teacher)
        return {array.path: values for array, values in zip(arrays, packed, strict=True)}, {arrays[0].path: cost}

    @property
    def _kind(self) -> TopK:
        kind = KINDS["top_k"]
        assert isinstance(kind, TopK)
        return kind

    @property
    def _settings(self) -> TopKConfig:
        return TopKConfig(k=self.entries, temperature=self.config.temperature)


class HiddenNumbers(Numbers):
    """Hidden states in the dtype that they have, the last of them behind the final norm."""

    dtype = ""

    def __init__(self, config: ImportConfig, teacher: TeacherRecord, parts: LastParts):
        super().__init__(config, teacher)
        self._parts, self._layers = parts, list(config.layers or ())
        last = teacher.num_layers
        if not self._layers:
            raise ConfigError(
                "layers: the files do not say which layers they hold; give vLLM's eagle_aux_hidden_state_layer_ids, "
                "such as [2, 14, 25, 28] of 28 layers"
            )
        if sorted(set(self._layers)) != self._layers or self._layers[-1] > last:
            raise ConfigError(f"layers: give them ascending, once each, up to {last}, which is the teacher's last")
        if self._layers[-1] != last:
            raise ConfigError(
                f"layers: the last of them is {last} in such data, the teacher's last; they end with {self._layers[-1]}"
            )

    def see(self, sample: ImportedSample) -> None:
        """See `Numbers.see`."""
        states, dtype = sample.numbers, str(sample.numbers.dtype).removeprefix("torch.")
        if states.shape[2] != self.teacher.hidden_size:
            raise CorpusError(
                f"sample {sample.tokens.id!r}: its states are {states.shape[2]} wide, the teacher's "
                f"{self.teacher.hidden_size}; is it the right one?"
            )
        if dtype not in ("float32", "float16", "bfloat16") or self.dtype not in ("", dtype):
            raise CorpusError(
                f"sample {sample.tokens.id!r}: its states are {dtype}, those before it {self.dtype or 'none'}"
            )
        self.dtype = dtype

    def arrays(self) -> list[ArrayRecord]:
        """See `Numbers.arrays`."""
        settings = HiddenSettings(list(self._layers), None)
        return KINDS["hidden"].list_arrays(settings, self.dtype, self.teacher)  # type: ignore[arg-type]

    def plain(self, sample: ImportedSample) -> Mapping[str, np.ndarray]:
        """See `Numbers.plain`. Raises CorpusError for a final state that overflows behind the norm."""
        found = dict[str, np.ndarray]()
        for place, layer in enumerate(self._layers):
            states_Td: Tensor = sample.numbers[:, place]
            if layer == self.teacher.num_layers:
                states_Td = self._parts.normed(states_Td)
            if not states_Td.isfinite().all():
                raise CorpusError(f"sample {sample.tokens.id!r}: layer {layer} is not finite behind the final norm")
            stored = states_Td.contiguous()
            found[f"hidden/{layer}"] = (stored.view(torch.uint16) if self.dtype == "bfloat16" else stored).numpy()
        return found

    def pack(self, samples: Sequence[ImportedSample]) -> tuple[Mapping[str, Values], Mapping[str, EncodingCost]]:
        """See `Numbers.pack`."""
        plain = [self.plain(sample) for sample in samples]
        return {path: np.concatenate([each[path] for each in plain]) for path in plain[0]}, {}


def numbers_of(config: ImportConfig, teacher: TeacherRecord, parts: LastParts | None) -> Numbers:
    """By what the layout gives. Raises ConfigError."""
    if LAYOUTS.find(config.layout).gives == "top_k":
        return TopKNumbers(config, teacher)
    assert parts is not None  # they were loaded for it
    return HiddenNumbers(config, teacher, parts)
