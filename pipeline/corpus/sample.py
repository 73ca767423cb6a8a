"""One sample on its way through the pipeline: read, then annotated."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Sample:
    """A text to learn from. What precedes the response is context, and not trained on."""

    id: str
    prompt: str
    response: str


@dataclass(frozen=True)
class Spans:
    """Character spans [n, 2] int32, each [start, end), in order of their start."""

    words: np.ndarray
    noun_phrases: np.ndarray
    verb_phrases: np.ndarray


NO_SPANS = Spans(*(np.empty((0, 2), np.int32) for _ in range(3)))


@dataclass(frozen=True)
class AnnotatedSample:
    """A sample with the teacher's tokens. `text` ends where the tokens end."""

    id: str
    text: str
    targets: np.ndarray  # [n, 2] int32, characters that are learnt; see schemas.cache.targets
    truncated: bool
    token_ids: np.ndarray  # [T] int32
    token_offsets: np.ndarray  # [T, 2] int32, [start, end) in text; empty for special tokens
    token_rows: np.ndarray  # [n, 2] int32, positions of the tokens that are kept; see schemas.cache.token_rows
    spans: Spans
