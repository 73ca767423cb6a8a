"""The requests of a loss to a batch, and the cached samples that it is answered from.

A request is a value: frozen, hashable, equal to any other that asks for the same. It knows how it is answered, so a
kind of states from outside brings a request of its own, and nothing here knows of it.

Shapes: B samples, T teacher tokens.
"""

from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from torch import Tensor

from schemas.cache.arrays import ArrayRecord
from schemas.cache.dtypes import STORED
from schemas.cache.ragged import RaggedRows, concatenate
from schemas.cache.readable import ReadableCache
from schemas.cache.samples import CachedSample
from schemas.cache.token_rows import every_row, row_positions
from schemas.errors import RunError
from trainer.alignment.student_text import StudentText
from trainer.data.encoded_states import EncodedStates, JoinedStates, gather_rows

T_co = TypeVar("T_co", covariant=True)
NOWHERE = row_positions(every_row(0))


@dataclass(frozen=True)
class Drawn:
    """The samples of a batch, as the cache holds them and as the student's tokenizer cuts them."""

    cache: ReadableCache
    positions: Sequence[int]
    samples: Sequence[CachedSample]
    texts: Sequence[StudentText]

    def states(self, array: ArrayRecord, dtype: torch.dtype | None = torch.float32) -> Tensor:
        """[B, T] or [B, T, width] of an array with a row per token; 0 on padding and where a token has no row. None for
        the dtype on disk, which takes the one copy on the way from there to the model."""
        longest = max(len(sample.token_ids) for sample in self.samples)
        ranges = [sample.token_rows if array.follows_subset else every_row(longest) for sample in self.samples]
        return self._rows(array, longest, dtype, ranges)

    def rows(self, array: ArrayRecord) -> Any:
        """The rows of all samples, one after the other, as they lie in the cache: an array, or RaggedRows."""
        return self._rows_of(array, range(len(self.positions)))

    def _rows_of(self, array: ArrayRecord, some: Iterable[int]) -> Any:
        found = [self.cache.states(self.positions[sample], [array])[0] for sample in some]
        return concatenate(found) if isinstance(found[0], RaggedRows) else np.concatenate(found)

    def padded(self, values_Nx: np.ndarray, dtype: torch.dtype = torch.float32) -> Tensor:
        """[B, T, x] of what was made of the rows of all samples; 0 on padding and where a token has no row."""
        longest = max(len(sample.token_ids) for sample in self.samples)
        states = torch.zeros((len(self.samples), longest, values_Nx.shape[1]), dtype=dtype)
        places = [row_positions(sample.token_rows) for sample in self.samples]
        values = torch.from_numpy(values_Nx).split([len(place) for place in places])
        for row, (place, own) in enumerate(zip(places, values, strict=True)):
            states[row, torch.from_numpy(place)] = own.to(dtype)
        return states

    def encoded_states(self, array: ArrayRecord) -> EncodedStates | JoinedStates:
        """The rows of an array that has a decoder, as they lie on disk; apart by the tables that they were encoded
        by."""
        longest, batch = max(len(sample.token_ids) for sample in self.samples), range(len(self.samples))
        places = [row_positions(sample.token_rows) for sample in self.samples]
        if len(self.cache.tables) == 1:
            return gather_rows(array, self.rows(array), places, longest)
        of = defaultdict[int, list[int]](list)
        for sample, position in zip(batch, self.positions, strict=True):
            of[self.cache.tables_of(position)].append(sample)
        parts = {}
        for tables, some in sorted(of.items()):
            own = [places[sample] if sample in some else NOWHERE for sample in batch]
            found = gather_rows(array, self._rows_of(array, some), own, longest)
            parts[tables] = replace(found, array=(*found.array, tables))
        return JoinedStates(parts)

    def sample_states(self, array: ArrayRecord) -> Tensor:
        """[B, width] of an array with a row per sample."""
        return self._rows(array, 1, torch.float32, [every_row(1)] * len(self.positions))[:, 0]

    def _rows(
        self, array: ArrayRecord, longest: int, dtype: torch.dtype | None, ranges_of: Sequence[np.ndarray]
    ) -> Tensor:
        """Each sample's rows, put where its ranges say."""
        shape = (len(self.positions), longest) if array.width is None else (len(self.positions), longest, array.width)
        states = np.zeros(shape, STORED[array.dtype])  # by NumPy, which leaves the model's threads alone
        for row, (position, ranges) in enumerate(zip(self.positions, ranges_of, strict=True)):
            values = self.cache.states(position, [array])[0]
            first = 0
            for start, end in ranges.tolist():  # one after another: each is a slice, which copies at memory's speed
                part = values[first : first + end - start]
                states[row, start : start + len(part)] = part
                first += len(part)
        stored = torch.from_numpy(states)
        if array.dtype == "bfloat16":
            stored = stored.view(torch.bfloat16)
        return stored if dtype is None else stored.to(dtype)


class BatchRequest(ABC, Generic[T_co]):
    """Something of a batch that a loss reads: states of the teacher, or what ties the two sides' tokens together."""

    def require(self, cache: ReadableCache) -> None:
        """Raises CacheError if `cache` cannot answer."""

    def reads_everywhere(self) -> str | None:
        """What of `states.rows` it reads at tokens that are no targets and do not predict one; None for nothing."""
        return None

    @abstractmethod
    def collate(self, drawn: Drawn) -> T_co:
        """The answer over a batch: tensors, or an `OnDevice` of some. Raises PairingError that names a sample."""


def answer_of(answers: Mapping[Any, Any], request: object) -> Any:
    """The answer to `request`. Raises RunError if nobody asked for it."""
    try:
        return answers[request]
    except KeyError:
        raise RunError(f"{request} was not asked for: a loss can read only what is in its `requests`") from None
