"""Which span every token of a sample belongs to, on the teacher's side and on the student's."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from schemas.cache.samples import CachedSample
from schemas.cache.targets import lie_inside
from trainer.alignment.spans import aligned_spans, common_spans, resolve_overlaps, span_labels
from trainer.alignment.student_text import StudentText


@dataclass(frozen=True)
class SpanChoice:
    """Which spans of a sample."""

    level: Literal["aligned", "word", "phrase"]
    scope: Literal["text", "response"]  # the whole, or what lies in its targets
    phrases: tuple[str, ...] = ()  # of "noun", "verb"; at level "phrase"
    max_spans: int | None = None  # more are merged uniformly; at level "aligned"


def label_spans(choice: SpanChoice, sample: CachedSample, text: StudentText) -> tuple[np.ndarray, np.ndarray, int]:
    """Labels of the teacher's tokens [T] and of the student's [S], and the number of spans K."""
    return (_aligned if choice.level == "aligned" else _linguistic)(choice, sample, text)


def _aligned(choice: SpanChoice, sample: CachedSample, text: StudentText) -> tuple[np.ndarray, np.ndarray, int]:
    targets = sample.targets if choice.scope == "response" else None
    return aligned_spans(sample.token_offsets, text.offsets, targets, choice.max_spans)


def _linguistic(choice: SpanChoice, sample: CachedSample, text: StudentText) -> tuple[np.ndarray, np.ndarray, int]:
    kinds: dict[str, Callable[[], np.ndarray]] = {
        "noun": lambda: sample.noun_phrases,
        "verb": lambda: sample.verb_phrases,
    }
    spans = sample.words if choice.level == "word" else np.concatenate([kinds[kind]() for kind in choice.phrases])
    if choice.scope == "response":
        spans = spans[lie_inside(spans, sample.targets)]
    if text.cut:  # a word cut in half is not a match for the whole of it
        spans = spans[spans[:, 1] <= text.offsets[:, 1].max(initial=0)]
    spans = resolve_overlaps(spans)
    return common_spans(span_labels(sample.token_offsets, spans), span_labels(text.offsets, spans), len(spans))
