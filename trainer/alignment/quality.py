"""How well a student's tokens can be tied to a cache's, measured over some of its samples before any training.

A loss learns nothing from what it cannot tie to the teacher, and does so silently; so every run over tokens measures
this once, and one that reads the teacher refuses what is too little. Costs what tokenizing and aligning the samples
costs, about 0.5 ms each.

Coverage is that of characters up to the last end that both tokenizations share: below 1 where one side stops early.
Agreement is the number of spans by the tokens of the side that has fewer, which is found for every target: near 0 where
two tokenizers seldom end a token at the same place, and spans are long.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Literal

import numpy as np
from transformers import PreTrainedTokenizerBase

from schemas.cache.readable import ReadableCache
from schemas.cache.samples import CachedSample
from schemas.cache.targets import range_of
from schemas.errors import RunError
from schemas.shown import percent
from trainer.alignment.labels import SpanChoice, label_spans
from trainer.alignment.spans import aligned_spans, coverage
from trainer.alignment.student_text import StudentText, StudentTokenizer, TextTokenizer
from trainer.alignment.vocabulary import share_vocabulary

MEASURED = 1000  # samples, drawn without replacement
_AT_ONCE = 100

Reason = Literal["empty_response", "cut", "no_common_end"]
REASONS: dict[Reason, str] = {
    "empty_response": "have an empty response",
    "cut": "are cut by max_tokens before it",
    "no_common_end": "have no end of a token in common",
}


@dataclass(frozen=True)
class LevelQuality:
    """Words, phrases or other spans that a loss asks for, with tokens on both sides."""

    spans_mean: float  # per sample
    without: int  # samples that have none


@dataclass(frozen=True)
class AlignmentQuality:
    """Aligned spans of the response, over some samples of a cache. Means weigh every sample the same."""

    samples: int
    coverage_mean: float  # share of the response's characters that spans cover; 0 where it is empty
    coverage_min: float
    spans_mean: float  # per sample
    skipped: Mapping[Reason, int]  # samples without any span
    agreement: float = 1.0  # spans by the response's tokens of the side that has fewer
    levels: Mapping[str, LevelQuality] = field(default_factory=dict)  # by name, e.g. "phrase"
    begin_twice: int = 0  # samples that spell out the beginning of sequence that the student's tokenizer adds

    def metrics(self) -> dict[str, float]:
        """The figures that a run reports at step 0."""
        skipped = {f"align/skipped/{reason}": float(self.skipped.get(reason, 0)) for reason in REASONS}
        levels: dict[str, float] = {}
        for name, level in self.levels.items():
            levels |= {f"align/{name}/spans": level.spans_mean, f"align/{name}/without": float(level.without)}
        return {
            "align/coverage": self.coverage_mean,
            "align/coverage_min": self.coverage_min,
            "align/agreement": self.agreement,
            "align/spans": self.spans_mean,
            **skipped,
            **levels,
        }

    def __str__(self) -> str:
        """One line, e.g. `99.8% of the response covered (worst sample 61.2%), 57.3 spans per sample, ...`."""
        without = f"all of {self.samples:,} samples have spans"
        if self.skipped:
            why = ", ".join(
                f"{self.skipped[reason]:,} {REASONS[reason]}" for reason in REASONS if reason in self.skipped
            )
            without = f"{sum(self.skipped.values()):,} of {self.samples:,} samples without any: {why}"
        mean, least = percent(self.coverage_mean), percent(self.coverage_min)
        covered = f"{mean} of the response covered (worst sample {least})"
        spans = f"{self.spans_mean:.1f} spans per sample, {self.agreement:.2f} per token of the coarser side"
        return f"{covered}, {spans}, {without}"


def describe_begin_twice(samples: int, measured: int) -> str:
    """What to say of `samples` of `measured` samples that begin twice in the student's tokens, and the way out."""
    return (
        f"{samples:,} of {measured:,} samples begin twice: their text spells out the beginning of sequence (BOS) that "
        "the student's tokenizer adds as well; take it out of the template or the texts"
    )


@dataclass(frozen=True)
class VocabularyCoverage:
    """The shared vocabulary of two tokenizers, and how much of the texts it can say. Special tokens do not count."""

    shared: int
    student_size: int
    teacher_size: int
    student_tokens: float  # share of the texts' tokens that are in the shared vocabulary
    teacher_tokens: float


def measure_alignment(
    cache: ReadableCache, text_tokenizer: TextTokenizer, limit: int, seed: int, requests: Iterable[SpanChoice] = ()
) -> AlignmentQuality:
    """Align at most `limit` samples, drawn by `seed`, and label the spans that `requests` ask for.

    Raises TokenizerError or PairingError that names a sample.
    """
    covered: list[float] = []
    spans: list[int] = []
    agreements: list[float] = []
    skipped: Counter[Reason] = Counter()
    levels = {_name(request): request for request in requests if request.level != "aligned"}
    counts: dict[str, list[int]] = {name: [] for name in sorted(levels)}
    begin_twice = 0
    for sample, text in drawn(cache, text_tokenizer, limit, seed):
        on_teacher, _, count = aligned_spans(sample.token_offsets, text.offsets, sample.targets)
        fewer = _fewer_tokens(sample.token_offsets, text.offsets, sample.targets)
        begin_twice += text.begins_twice
        agreements += [count / fewer] if fewer else []
        for name, request in levels.items():
            counts[name].append(label_spans(request, sample, text)[2])
        empty = not len(sample.targets)
        covered.append(0.0 if empty else coverage(sample.token_offsets, on_teacher, sample.targets))
        spans.append(count)
        if not count:
            skipped["empty_response" if empty else "cut" if text.cut else "no_common_end"] += 1
    agreement = fmean(agreements) if agreements else 0.0
    found = {name: LevelQuality(fmean(each), each.count(0)) for name, each in counts.items()}
    covers = (len(covered), fmean(covered), min(covered), fmean(spans))
    return AlignmentQuality(*covers, dict(skipped), agreement, found, begin_twice)


def require_alignment(
    quality: AlignmentQuality, cache: Path | ReadableCache, min_coverage: float, min_agreement: float
) -> None:
    """Raises RunError if spans cover too little, are too few, or a level that a loss asks for has none."""
    for found, least, name in (
        (quality.coverage_mean, min_coverage, "min_coverage"),
        (quality.agreement, min_agreement, "min_agreement"),
    ):
        if found < least:
            raise RunError(
                f"the tokens of student and teacher hardly align over {cache}: {quality}. Training refuses below "
                f"{least:.0%} ({name}). Raise student.max_tokens if samples are cut, give the student a tokenizer that "
                f"keeps the text as it is and cuts it more alike, take losses without a teacher, or lower {name}"
            )
    for name, level in quality.levels.items():
        if level.without == quality.samples:
            raise RunError(
                f"a loss asks for spans at level {name}, and none of {quality.samples:,} samples of {cache} has one "
                "with tokens on both sides: it would learn nothing. Extract into a new output with another annotator, "
                "or raise student.max_tokens"
            )


def measure_vocabulary(
    cache: ReadableCache,
    text_tokenizer: StudentTokenizer,
    teacher_tokenizer: PreTrainedTokenizerBase,
    limit: int,
    seed: int,
) -> VocabularyCoverage:
    """Measure what two tokenizers share, and how much of at most `limit` samples that is. Raises TokenizerError."""
    shared = share_vocabulary(text_tokenizer.tokenizer, teacher_tokenizer)
    of_student, of_teacher = [], []
    for sample, text in drawn(cache, text_tokenizer, limit, seed):
        of_student.append(_of_text(text.ids, text.offsets))
        of_teacher.append(_of_text(sample.token_ids, sample.token_offsets))
    return VocabularyCoverage(
        shared=shared.size,
        student_size=len(text_tokenizer.tokenizer),
        teacher_size=len(teacher_tokenizer),
        student_tokens=_share(np.concatenate(of_student), shared.student_ids.numpy()),
        teacher_tokens=_share(np.concatenate(of_teacher), shared.teacher_ids.numpy()),
    )


def _name(request: SpanChoice) -> str:
    """word, phrase, or phrase/noun; words of the whole text are word/text."""
    kinds = "" if len(request.phrases) != 1 else f"/{request.phrases[0]}"
    return f"{request.level}{kinds}" if request.scope == "response" else f"{request.level}{kinds}/text"


def _fewer_tokens(teacher_offsets: np.ndarray, student_offsets: np.ndarray, targets: np.ndarray) -> int:
    """The most spans that there may be: in every range the tokens of the side that has fewer there, summed."""
    return int(np.minimum(*(_tokens_inside(offsets, targets) for offsets in (teacher_offsets, student_offsets))).sum())


def _tokens_inside(offsets: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """[R] of R ranges: the tokens of the text, not special ones, that belong to each."""
    found = range_of(offsets[offsets[:, 0] < offsets[:, 1], 1], targets)
    return np.bincount(found[found >= 0], minlength=len(targets))


def _share(tokens: np.ndarray, ids: np.ndarray) -> float:
    return float(np.isin(tokens, ids).mean()) if len(tokens) else 0.0


def _of_text(ids: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    return ids[offsets[:, 0] < offsets[:, 1]]


def drawn(
    cache: ReadableCache, text_tokenizer: TextTokenizer, limit: int, seed: int
) -> Iterator[tuple[CachedSample, StudentText]]:
    """At most `limit` samples in the cache's order, as teacher and student cut them into tokens."""
    positions = np.arange(len(cache))
    if len(cache) > limit:
        positions = np.sort(np.random.default_rng(seed).choice(len(cache), limit, replace=False))
    for start in range(0, len(positions), _AT_ONCE):
        samples = [cache.sample(int(position)) for position in positions[start : start + _AT_ONCE]]
        yield from zip(samples, text_tokenizer(samples), strict=True)
