"""A sample computed once more, alone, against its rows in a cache: encoded and decoded as those were.

Shapes: N rows of one array.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipeline.corpus.sample import AnnotatedSample
from pipeline.encoding.measure import kl_divergence
from pipeline.encoding.unit import UnitEncoder
from pipeline.replay.distance import between_likeliest, between_states
from pipeline.replay.draws import outside
from pipeline.replay.gap import Gap
from pipeline.teacher.batching import BatchRule
from pipeline.teacher.check import SOFTMAX, TOLERANCE
from pipeline.teacher.head import teacher_head
from pipeline.teacher.kinds.sampled import uniforms
from pipeline.teacher.run import Teacher
from schemas.cache.arrays import KINDS, ArrayRecord, by_kind
from schemas.cache.kinds.next_token import NextToken
from schemas.cache.manifest import CacheManifest
from schemas.cache.ragged import RaggedRows
from schemas.cache.row_units import as_square, count_rows_by_unit
from schemas.cache.states import Values
from schemas.cache.token_rows import count_rows, row_positions
from schemas.models.row_numbers import RowNumbers, plain_numbers
from schemas.models.state_decoder import DECODERS

# What rounding may move a state by, as a share of it, from a batch of many to a batch of one, by the compute dtype.
NOISE = {**TOLERANCE, "float32": 2e-5}
STEP = {"float32": 2.0**-23, "float16": 2.0**-10, "bfloat16": 2.0**-7}  # of a number that is rounded to that dtype
TIPS = 4.0  # a code has several neighbours, and several codes make a row
JUMP = 2.0  # from one side of the true row to the other
INCOMPARABLE = Gap.of(0.0, np.array([np.inf]))


@dataclass(frozen=True)
class Compared:
    """What is found of one sample."""

    gaps: Mapping[str, Gap]  # by the path of an array, or the name of a kind of several
    kl_N: np.ndarray | None  # nats: what encoding costs each final state; None where it is not encoded


class Comparison:
    """Compares samples with what a cache holds of them."""

    def __init__(self, cache: Path, manifest: CacheManifest, teacher: Teacher, encoder: UnitEncoder, noise: float):
        """`teacher` gives the arrays of `manifest`; `noise` is the share of a state that rounding may move.

        Raises CacheError: CACHE/codecs is missing or altered.
        """
        self._manifest, self._teacher, self._encoder = manifest, teacher, encoder
        self._numbers, self._noise = RowNumbers(cache, manifest), noise

    def compare_alone(self, batch: Sequence[AnnotatedSample], number: int, stored: Mapping[str, Values]) -> Compared:
        """The rows in `stored`, which holds every array by its path, against those that the teacher gives for sample
        `number` alone. `batch` is what it ran in: the tokens go to the experts that they went to there.

        Raises what `compare` does.
        """
        with self._teacher.choosing_as_in(batch, number):
            return self.compare([batch[number]], 0, stored)

    def compare(self, batch: Sequence[AnnotatedSample], number: int, stored: Mapping[str, Values]) -> Compared:
        """The same against those that the teacher gives for sample `number` of a batch.

        Raises what `Teacher.run` does, and CacheError for packed rows that cannot be unpacked.
        """
        made = self._run(batch, number)
        packed, _ = self._teacher.pack(made)
        fresh, _ = self._encoder.encode(packed)
        gaps = dict[str, Gap]()
        for name, arrays in by_kind(self._manifest.arrays).items():
            kind = KINDS[name]
            if not isinstance(kind, NextToken):
                gaps |= {array.path: self._states(array, stored, fresh, made) for array in arrays}
            elif kind.tail:
                gaps[name] = self._likeliest(kind, arrays, stored, fresh, made)
            else:
                gaps[name] = self._draws(kind, arrays, stored, batch, number)
        return Compared(gaps, self._divergences(stored, made))

    def _run(self, batch: Sequence[AnnotatedSample], number: int) -> dict[str, np.ndarray]:
        """What the teacher makes of one sample of a batch."""
        tokens = len(batch) * max(len(sample.token_ids) for sample in batch)
        made = self._teacher.run(batch, BatchRule(max(1, tokens)), lambda samples, tokens: None)
        lengths, kept = zip(*((len(s.token_ids), count_rows(s.token_rows)) for s in batch), strict=True)
        counts, found = count_rows_by_unit(lengths, kept, self.causal), dict[str, np.ndarray]()
        for array in self._teacher.arrays:
            of_samples = counts[array.unit]
            first = int(of_samples[:number].sum())
            found[array.path] = made[array.path][first : first + of_samples[number]]
        return found

    @property
    def causal(self) -> bool:
        """Whether a token sees those before it alone."""
        return self._manifest.teacher.kind == "causal"

    def _divergences(self, stored: Mapping[str, Any], made: Mapping[str, np.ndarray]) -> np.ndarray | None:
        array, head = self._manifest.array("hidden", self._teacher.record.num_layers), teacher_head(self._teacher)
        if array is None or head is None or array.encoding not in DECODERS:
            return None
        found = self._numbers.of(stored[array.path], array)
        true = plain_numbers(made[array.path], array.dtype)
        if found is None or found.shape != true.shape:
            return None
        kl_N = kl_divergence(torch.from_numpy(true).float(), torch.from_numpy(found).float(), head)
        return kl_N.double().cpu().numpy()

    def _states(
        self, array: ArrayRecord, stored: Mapping[str, Any], fresh: Mapping[str, Any], made: Mapping[str, np.ndarray]
    ) -> Gap:
        found, wanted = (self._numbers.of(rows[array.path], array) for rows in (stored, fresh))
        if found is None or wanted is None:  # of a codec that is known elsewhere
            return Gap.of(self._noise, np.empty(0))
        if found.shape != wanted.shape:
            return INCOMPARABLE
        step = STEP.get(array.dtype, 0.0)
        if array.rows == "pairs":  # what a token pays to one other means something beside what it pays to all
            found, wanted = (as_square(rows, self.causal) for rows in (found, wanted))
            apart_T = between_states(found.reshape(len(found), -1), wanted.reshape(len(wanted), -1))
            return Gap.of(SOFTMAX * self._noise, apart_T, step)
        if array.width is None:  # one number per token means something beside those of the other tokens
            return Gap.of(SOFTMAX * self._noise, between_states(found[None], wanted[None]), step)
        apart_N, one = between_states(found, wanted), 1 / np.sqrt(array.width)
        if array.encoding not in DECODERS:
            return Gap.of(self._noise, apart_N, step, step * one)
        lost_N = between_states(wanted, plain_numbers(made[array.path], array.dtype))
        noise = float(np.sqrt(self._noise**2 + self._noise * step))  # rounded first, and encoded then
        whole = isinstance(fresh[array.path], RaggedRows)  # a code is of many numbers
        return Gap.of(noise, apart_N, TIPS * lost_N, JUMP * lost_N * (1.0 if whole else one))

    def _likeliest(
        self,
        kind: NextToken[Any],
        arrays: list[ArrayRecord],
        stored: Mapping[str, Any],
        fresh: Mapping[str, Any],
        made: Mapping[str, np.ndarray],
    ) -> Gap:
        found, wanted = (self._unpacked(kind, arrays, rows) for rows in (stored, fresh))
        ids, logprobs = (made[a.path] for a in kind.plain_arrays(self._manifest.records[kind.name], arrays[0].layer))
        if found[0].shape != wanted[0].shape:
            return INCOMPARABLE
        lost_N = between_likeliest(wanted, (ids, logprobs))
        return Gap.of(SOFTMAX * self._noise, between_likeliest(found, wanted), TIPS * lost_N, JUMP * lost_N)

    def _draws(
        self,
        kind: NextToken[Any],
        arrays: list[ArrayRecord],
        stored: Mapping[str, Any],
        batch: Sequence[AnnotatedSample],
        number: int,
    ) -> Gap:
        record, sample = self._manifest.records[kind.name], batch[number]
        ids, weights = (torch.from_numpy(values) for values in self._unpacked(kind, arrays, stored))
        of_tokens = uniforms(sample.id, len(sample.token_ids), record.entries, record.seed)
        uniform = torch.from_numpy(of_tokens[row_positions(sample.token_rows)])
        if len(ids) != len(uniform):
            return INCOMPARABLE
        parts = [
            outside(ids[rows].long(), weights[rows], logits_RV.cpu(), uniform[rows], record)
            for rows, logits_RV in self._teacher.predict(batch, number)
        ]
        apart = torch.cat(parts).numpy() if parts else np.empty(0)
        return Gap.of(SOFTMAX * self._noise, apart)

    def _unpacked(
        self, kind: NextToken[Any], arrays: list[ArrayRecord], rows: Mapping[str, Any]
    ) -> tuple[np.ndarray, np.ndarray]:
        record, teacher = self._manifest.records[kind.name], self._manifest.teacher
        return kind.unpack([rows[array.path] for array in arrays], record, teacher)
