"""One sample on its way through the pipeline: read, then annotated."""

import hashlib
from dataclasses import dataclass
from typing import Self

import numpy as np

from schemas.cache.samples import Turn


@dataclass(frozen=True)
class Sample:
    """A text to learn from. What is no target is context."""

    id: str
    text: str
    targets: tuple[tuple[int, int], ...]  # [start, end) of characters, ascending and apart, at least one
    turns: tuple[Turn, ...] = ()  # of a conversation
    structure: str = ""  # what of a conversation its text does not say

    @classmethod
    def of_response(cls, name: str, prompt: str, response: str) -> Self:
        """A prompt, which is context, and a response, which is learnt."""
        return cls(name, prompt + response, ((len(prompt), len(prompt) + len(response)),))

    @property
    def is_conversation(self) -> bool:
        """A chat template has written the text, special tokens included."""
        return bool(self.turns or self.structure)

    @property
    def parts(self) -> tuple[bytes, ...]:
        """All that it holds, in UTF-8: of a text the id, the prompt and the response."""
        begin = self.targets[0][0] if self.targets else 0
        parts = [self.id, self.text[:begin], self.text[begin:]]
        if self.is_conversation:
            turns = [(turn.message, turn.role, turn.part, turn.start, turn.end) for turn in self.turns]
            parts += [repr(self.targets), repr(turns), self.structure]
        return tuple(part.encode() for part in parts)


def hash_sample(sample: Sample) -> tuple[bytes, int]:
    """A digest of all that it holds, and the bytes of its text."""
    parts = sample.parts
    digest = hashlib.sha256(b"".join(len(part).to_bytes(8, "little") for part in parts))
    for part in parts:
        digest.update(part)
    return digest.digest(), len(parts[1]) + len(parts[2])


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
    turns: tuple[Turn, ...] = ()  # of a conversation
    structure: str = ""
