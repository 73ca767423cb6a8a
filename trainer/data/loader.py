"""From cached samples to padded batches: student tokens, aligned spans, and the teacher states that an objective needs.

Tokenizing and aligning cost well under a millisecond a sample and depend on nothing but the sample and the tokenizer,
so nothing of it is kept on disk that could go stale.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from transformers import PreTrainedTokenizerBase

from schemas.cache.arrays import ArrayRecord
from schemas.cache.reader import Cache
from schemas.cache.samples import CachedSample
from schemas.errors import PairingError, TokenizerError
from trainer.alignment.spans import (
    aligned_spans,
    check_offsets,
    common_spans,
    pair_tokens,
    resolve_overlaps,
    span_labels,
)
from trainer.data.batch import Batch, Needs, SpanRequest, SpanSet, SparseLogits
from trainer.data.sampler import BatchOrder


@dataclass(frozen=True)
class StudentText:
    """One sample in the student's tokens."""

    ids: np.ndarray  # [S] int64
    offsets: np.ndarray  # [S, 2] int32; special tokens have an empty range
    target: np.ndarray  # [S] bool: ends in the response, or is the end-of-sequence token
    length: int  # tokens that count as text: all, but for an end of sequence that the teacher's tokens don't have
    cut: bool  # longer than max_tokens: characters at the end have no token here


TextEncoder = Callable[[Sequence[CachedSample]], list[StudentText]]


class StudentEncoder:
    """Tokenizes cached texts for the student, whole prompt and response at once."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, max_tokens: int, append_eos: bool):
        """Raises TokenizerError if an end-of-sequence token is asked for and the tokenizer has none."""
        if append_eos and tokenizer.eos_token_id is None:
            raise TokenizerError(
                "the student's tokenizer has no end-of-sequence token: set student.append_eos to false"
            )
        self.tokenizer, self.max_tokens, self.append_eos = tokenizer, max_tokens, append_eos

    def __call__(self, samples: Sequence[CachedSample]) -> list[StudentText]:
        encoded = self.tokenizer(
            [sample.text for sample in samples],
            return_offsets_mapping=True,
            return_special_tokens_mask=True,
            return_attention_mask=False,
            verbose=False,
        )
        rows = zip(
            samples, encoded["input_ids"], encoded["offset_mapping"], encoded["special_tokens_mask"], strict=True
        )
        return [self._encode(*row) for row in rows]

    def _encode(
        self, sample: CachedSample, ids: list[int], offsets: list[tuple[int, int]], special: list[int]
    ) -> StudentText:
        tokens = np.array(ids, np.int64)
        ranges = np.array(offsets, np.int32).reshape(-1, 2)
        ranges[np.array(special, bool)] = 0
        try:
            check_offsets(ranges, len(sample.text))
        except TokenizerError as error:
            raise TokenizerError(f"sample {sample.id!r}: {error}") from error
        target = ranges[:, 1] > sample.prompt_end
        length = len(tokens)
        if self.append_eos and not sample.truncated:
            if not length or tokens[-1] != self.tokenizer.eos_token_id:  # some tokenizers end every text by themselves
                tokens = np.append(tokens, self.tokenizer.eos_token_id)
                ranges = np.concatenate([ranges, np.zeros((1, 2), np.int32)])
                target = np.append(target, True)
            target[-1] = True
            if _ends_with_special(sample):
                length = len(tokens)
        target[:1] = False  # nothing precedes it
        end = self.max_tokens
        return StudentText(tokens[:end], ranges[:end], target[:end], min(length, end), len(tokens) > end)


def _ends_with_special(sample: CachedSample) -> bool:
    """Whether the teacher's tokens have an end of sequence.

    If not, the student's is a target and nothing else: "the last real token", whose attention gives the masses (SRA),
    must be one and the same place in the text on both sides. A cache that keeps no tokens has no such place.
    """
    if not len(sample.token_offsets):
        return False
    start, end = sample.token_offsets[-1]
    before = sample.token_offsets[:-1, 1].max(initial=0)
    # White space that a tokenizer trims from its offsets (GPT-NeoX) is empty too, but lies behind what it trimmed.
    return bool(start == end == before and len(sample.token_offsets) > 1)


class BatchBuilder(Dataset[Batch]):
    """Positions in, a Batch out. Used as a map-style dataset whose index is a whole batch of positions."""

    def __init__(self, cache: Cache, encoder: TextEncoder, needs: Needs):
        """Raises CacheError if the cache lacks an array that the objective needs."""
        self.cache, self.encoder, self.needs = cache, encoder, needs
        self.hidden = [cache.array("hidden", layer) for layer in sorted(needs.teacher_hidden)]
        self.mass = [cache.array("mass", layer) for layer in sorted(needs.teacher_mass)]
        self.sparse = {kind: cache.arrays_of(kind) for kind in sorted(needs.sparse)}
        self.pooled = cache.arrays_of("pooled")[0] if needs.pooled else None

    def __getitem__(self, positions: Sequence[int]) -> Batch:
        """Raises PairingError that names the sample whose tokens or states do not fit together."""
        samples = [self.cache.sample(position) for position in positions]
        texts = self.encoder(samples)
        teacher_tokens = [len(sample.token_ids) for sample in samples]
        return Batch(
            sample_ids=tuple(sample.id for sample in samples),
            tokens_BS=_pad([text.ids for text in texts], 0),
            mask_BS=_lengths_mask([text.length for text in texts], max(len(text.ids) for text in texts)),
            target_BS=_pad([text.target for text in texts], False),
            teacher_tokens_BT=_pad([sample.token_ids.astype(np.int64) for sample in samples], 0),
            teacher_mask_BT=_lengths_mask(teacher_tokens, max(teacher_tokens)),
            teacher_target_BT=_pad([_teacher_target(sample) for sample in samples], False),
            teacher_hidden={array.layer: self._states(positions, array, max(teacher_tokens)) for array in self.hidden},
            teacher_mass={array.layer: self._states(positions, array, max(teacher_tokens)) for array in self.mass},
            spans={request: _span_set(request, samples, texts) for request in self.needs.spans},
            pair_BS=_pad([_pairs(*row) for row in zip(samples, texts, strict=True)], -1) if self.needs.pairs else None,
            sparse={kind: self._sparse(positions, kind, max(teacher_tokens)) for kind in self.sparse},
            pooled_Be=None if self.pooled is None else self._states(positions, self.pooled, 1)[:, 0],
        )

    def _sparse(self, positions: Sequence[int], kind: str, longest: int) -> SparseLogits:
        ids, values = self.sparse[kind]
        return SparseLogits(
            ids_BTn=self._states(positions, ids, longest, torch.long),
            values_BTn=self._states(positions, values, longest),
        )

    def _states(
        self, positions: Sequence[int], array: ArrayRecord, longest: int, dtype: torch.dtype = torch.float32
    ) -> Tensor:
        """[B, T] or [B, T, width], zero on padding: the one copy between disk and model."""
        shape = (len(positions), longest) if array.width is None else (len(positions), longest, array.width)
        states = torch.zeros(shape, dtype=dtype)
        for row, position in enumerate(positions):
            values = torch.from_numpy(self.cache.states(position, [array])[0])
            if array.dtype == "bfloat16":
                values = values.view(torch.bfloat16)
            states[row, : len(values)] = values
        return states


def batches(builder: BatchBuilder, batch_size: int, seed: int, start: int, workers: int) -> "DataLoader[Batch]":
    """Endless batches in the order of BatchOrder, from batch number `start`; `workers` processes read ahead."""
    return DataLoader(
        builder,
        sampler=BatchOrder(len(builder.cache), batch_size, seed, start),
        batch_size=None,
        num_workers=workers,
        collate_fn=_as_is,
        multiprocessing_context=_context(workers),
        # Starting an iterator draws a number; from the global generator, a resumed run would miss one.
        generator=torch.Generator(),
    )


def _as_is(batch: Any) -> Any:
    return batch


def _context(workers: int) -> str | None:
    # Open maps and the tokenizer are inherited by a fork; they cannot be sent to a fresh process.
    return "fork" if workers else None


def _teacher_target(sample: CachedSample) -> np.ndarray:
    """[T] bool: the token ends in the response, or is the end of sequence, and something precedes it."""
    target: np.ndarray = sample.token_offsets[:, 1] > sample.prompt_end
    target[-1:] |= _ends_with_special(sample)
    target[:1] = False
    return target


def _pairs(sample: CachedSample, text: StudentText) -> np.ndarray:
    try:
        return pair_tokens(sample.token_ids, text.ids)
    except PairingError as error:
        raise PairingError(f"sample {sample.id!r}: {error}") from error


def _span_set(request: SpanRequest, samples: Sequence[CachedSample], texts: Sequence[StudentText]) -> SpanSet:
    labelled = (label_spans(request, *row) for row in zip(samples, texts, strict=True))
    teacher, student, counts = zip(*labelled, strict=True)
    return SpanSet(
        student_BS=_pad(student, -1), teacher_BT=_pad(teacher, -1), mask_BK=_lengths_mask(counts, max(1, *counts))
    )


def label_spans(request: SpanRequest, sample: CachedSample, text: StudentText) -> tuple[np.ndarray, np.ndarray, int]:
    """Labels of the teacher's tokens [T] and of the student's [S], and the number of spans K."""
    return (_aligned if request.unit == "aligned" else _linguistic)(request, sample, text)


def _aligned(request: SpanRequest, sample: CachedSample, text: StudentText) -> tuple[np.ndarray, np.ndarray, int]:
    start = sample.prompt_end if request.scope == "response" else 0
    return aligned_spans(sample.token_offsets, text.offsets, start, request.max_spans)


def _linguistic(request: SpanRequest, sample: CachedSample, text: StudentText) -> tuple[np.ndarray, np.ndarray, int]:
    kinds: dict[str, Callable[[], np.ndarray]] = {
        "noun": lambda: sample.noun_phrases,
        "verb": lambda: sample.verb_phrases,
    }
    spans = sample.words if request.unit == "word" else np.concatenate([kinds[kind]() for kind in request.phrases])
    if request.scope == "response":
        spans = spans[spans[:, 0] >= sample.prompt_end]
    if text.cut:  # a word cut in half is no match for the whole of it
        spans = spans[spans[:, 1] <= text.offsets[:, 1].max(initial=0)]
    spans = resolve_overlaps(spans)
    return common_spans(span_labels(sample.token_offsets, spans), span_labels(text.offsets, spans), len(spans))


def _pad(rows: Sequence[np.ndarray], value: int) -> Tensor:
    dtype = torch.bool if rows[0].dtype == bool else torch.long
    padded = torch.full((len(rows), max(len(row) for row in rows)), value, dtype=dtype)
    for place, row in enumerate(rows):
        padded[place, : len(row)] = torch.from_numpy(row)
    return padded


def _lengths_mask(lengths: Sequence[int], width: int) -> Tensor:
    return torch.arange(width)[None, :] < torch.tensor(lengths)[:, None]
