"""How well a student's tokens can be tied to a cache's, measured over some of its samples before any training.

Losses over spans learn nothing from what no span covers, and do so silently; a run that needs spans measures this once
and refuses below `min_coverage`. Costs what tokenizing and aligning the samples costs, about 0.5 ms each.

Coverage is that of characters up to the last end that both tokenizations share. It is below 1 where one side stops
early, not where spans are long: two tokenizers that seldom agree show in the number of spans.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from statistics import fmean
from typing import Literal

import numpy as np
from transformers import PreTrainedTokenizerBase

from schemas.errors import RunError
from trainer.align import aligned_spans, coverage
from trainer.cache import Cache, CachedSample
from trainer.loader import StudentEncoder, StudentText, TextEncoder
from trainer.vocabulary import share_vocabulary

MEASURED = 1000  # samples, drawn without replacement
_AT_ONCE = 100

Reason = Literal["empty_response", "cut", "no_common_end"]
REASONS: dict[Reason, str] = {
    "empty_response": "have an empty response",
    "cut": "are cut by max_tokens before it",
    "no_common_end": "have no end of a token in common",
}


@dataclass(frozen=True)
class AlignmentQuality:
    """Aligned spans of the response, over some samples of a cache. Means weigh every sample the same."""

    samples: int
    coverage_mean: float  # share of the response's characters that spans cover; 0 where it is empty
    coverage_min: float
    spans_mean: float  # a sample
    skipped: Mapping[Reason, int]  # samples without any span

    def metrics(self) -> dict[str, float]:
        """What a run reports at step 0."""
        skipped = {f"align/skipped/{reason}": float(self.skipped.get(reason, 0)) for reason in REASONS}
        return {
            "align/coverage": self.coverage_mean,
            "align/coverage_min": self.coverage_min,
            "align/spans": self.spans_mean,
            **skipped,
        }

    def __str__(self) -> str:
        """One line, e.g. `99.8% of the response covered (worst sample 61.2%), 57.3 spans a sample, ...`."""
        without = f"all of {self.samples:,} samples have spans"
        if self.skipped:
            why = ", ".join(
                f"{self.skipped[reason]:,} {REASONS[reason]}" for reason in REASONS if reason in self.skipped
            )
            without = f"{sum(self.skipped.values()):,} of {self.samples:,} samples without any: {why}"
        covered = f"{self.coverage_mean:.1%} of the response covered (worst sample {self.coverage_min:.1%})"
        return f"{covered}, {self.spans_mean:.1f} spans a sample, {without}"


@dataclass(frozen=True)
class VocabularyCoverage:
    """The shared vocabulary of two tokenizers, and how much of the texts it can say. Special tokens count for none."""

    shared: int
    student_size: int
    teacher_size: int
    student_tokens: float  # share of the texts' tokens that are in the shared vocabulary
    teacher_tokens: float


def measure_alignment(cache: Cache, encoder: TextEncoder, limit: int, seed: int) -> AlignmentQuality:
    """Align at most `limit` samples, drawn by `seed`. Raises TokenizerError or PairingError that names a sample."""
    covered: list[float] = []
    spans: list[int] = []
    skipped: Counter[Reason] = Counter()
    for sample, text in _drawn(cache, encoder, limit, seed):
        on_teacher, _, count = aligned_spans(sample.token_offsets, text.offsets, sample.prompt_end)
        empty = sample.prompt_end >= len(sample.text)
        covered.append(
            0.0 if empty else coverage(sample.token_offsets, on_teacher, sample.prompt_end, len(sample.text))
        )
        spans.append(count)
        if not count:
            skipped["empty_response" if empty else "cut" if text.cut else "no_common_end"] += 1
    return AlignmentQuality(len(covered), fmean(covered), min(covered), fmean(spans), dict(skipped))


def require_alignment(cache: Cache, encoder: TextEncoder, min_coverage: float, seed: int) -> AlignmentQuality:
    """The quality over at most MEASURED samples. Raises RunError if spans cover less than `min_coverage` of them."""
    quality = measure_alignment(cache, encoder, MEASURED, seed)
    if quality.coverage_mean < min_coverage:
        raise RunError(
            f"the tokens of student and teacher hardly align over {cache.path}: {quality}. Training refuses below "
            f"{min_coverage:.0%} (min_coverage). Raise student.max_tokens if samples are cut, give the student a "
            "tokenizer that keeps the text as it is, take losses without spans, or lower min_coverage"
        )
    return quality


def measure_vocabulary(
    cache: Cache, encoder: StudentEncoder, teacher_tokenizer: PreTrainedTokenizerBase, limit: int, seed: int
) -> VocabularyCoverage:
    """What two tokenizers share, and how much of at most `limit` samples that is. Raises TokenizerError."""
    shared = share_vocabulary(encoder.tokenizer, teacher_tokenizer)
    of_student, of_teacher = [], []
    for sample, text in _drawn(cache, encoder, limit, seed):
        of_student.append(_of_text(text.ids, text.offsets))
        of_teacher.append(_of_text(sample.token_ids, sample.token_offsets))
    return VocabularyCoverage(
        shared=shared.size,
        student_size=len(encoder.tokenizer),
        teacher_size=len(teacher_tokenizer),
        student_tokens=_share(np.concatenate(of_student), shared.student_ids.numpy()),
        teacher_tokens=_share(np.concatenate(of_teacher), shared.teacher_ids.numpy()),
    )


def _share(tokens: np.ndarray, ids: np.ndarray) -> float:
    return float(np.isin(tokens, ids).mean()) if len(tokens) else 0.0


def _of_text(ids: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    return ids[offsets[:, 0] < offsets[:, 1]]


def _drawn(cache: Cache, encoder: TextEncoder, limit: int, seed: int) -> Iterator[tuple[CachedSample, StudentText]]:
    """At most `limit` samples in the cache's order, as teacher and student cut them into tokens."""
    positions = np.arange(len(cache))
    if len(cache) > limit:
        positions = np.sort(np.random.default_rng(seed).choice(len(cache), limit, replace=False))
    for start in range(0, len(positions), _AT_ONCE):
        samples = [cache.sample(int(position)) for position in positions[start : start + _AT_ONCE]]
        yield from zip(samples, encoder(samples), strict=True)
