"""samples.arrow and index.parquet: texts, tokens and spans. Offsets count Unicode code points, as Python does."""

from dataclasses import dataclass, fields
from typing import Literal, get_args

import numpy as np
import pyarrow as pa

VERSION_KEY = b"stillroom-samples"
VERSION = 2

# [n, 2] pairs of [start, end) in the sample's text.
Offsets = pa.list_(pa.list_(pa.int32(), 2))
Turns = pa.list_(
    pa.struct(
        [
            ("message", pa.int32()),
            ("role", pa.string()),
            ("part", pa.string()),
            ("start", pa.int32()),
            ("end", pa.int32()),
        ]
    )
)

# What is learnt of a text, by version.
_LEARNT = {
    1: [pa.field("prompt_end", pa.int32(), nullable=False)],  # the response is text[prompt_end:]
    2: [
        pa.field("targets", Offsets, nullable=False),  # see schemas.cache.targets
        pa.field("turns", Turns, nullable=False),  # of a conversation; otherwise there are none
        pa.field("structure", pa.string(), nullable=False),  # see schemas.cache.structure; mostly empty
    ],
}
_ROWS = {
    1: [],
    2: [
        pa.field("token_rows", Offsets, nullable=False),  # positions of tokens; see schemas.cache.token_rows
        pa.field("kept_start", pa.int64(), nullable=False),  # first row of this sample in arrays that hold those alone
    ],
}


def _samples_schema(version: int) -> pa.Schema:
    return pa.schema(
        [
            pa.field("sample_id", pa.string(), nullable=False),
            pa.field("text", pa.string(), nullable=False),  # cut where the teacher's tokens end
            *_LEARNT[version],
            pa.field("truncated", pa.bool_(), nullable=False),
            pa.field("token_ids", pa.list_(pa.int32()), nullable=False),
            pa.field("token_offsets", Offsets, nullable=False),  # special tokens have an empty range
            pa.field("words", Offsets, nullable=False),
            pa.field("noun_phrases", Offsets, nullable=False),
            pa.field("verb_phrases", Offsets, nullable=False),
            pa.field("row_start", pa.int64(), nullable=False),  # first row of this sample in arrays of rows per token
            pa.field("row_count", pa.int32(), nullable=False),  # equals len(token_ids)
            *_ROWS[version],
        ],
        metadata={VERSION_KEY: str(version).encode()},
    )


SAMPLES_SCHEMAS = {version: _samples_schema(version) for version in _LEARNT}  # those that are readable
SAMPLES_SCHEMA = SAMPLES_SCHEMAS[VERSION]  # the one that is written

INDEX_SCHEMA = pa.schema(
    [
        pa.field("sample_id", pa.string(), nullable=False),
        pa.field("shard", pa.int32(), nullable=False),
        pa.field("row", pa.int32(), nullable=False),  # row of samples.arrow
        pa.field("tokens", pa.int32(), nullable=False),
    ],
    metadata={b"stillroom-index": b"1"},
)


PartName = Literal["content", "reasoning", "tool_calls", "end"]
PARTS: tuple[PartName, ...] = get_args(PartName)


@dataclass(frozen=True)
class Turn:
    """A part of a message of a conversation: who speaks, and where in the text.

    `content` and `reasoning` are the characters of these alone, `tool_calls` the markup around them too, and `end` is
    the token by which an assistant ends its turn.
    """

    message: int  # from 0
    role: str
    part: PartName
    start: int
    end: int


@dataclass(frozen=True)
class CachedSample:
    """One sample as the pipeline wrote it. Offsets count characters of `text`."""

    id: str
    text: str
    targets: np.ndarray  # [n, 2] int32: what the student learns to predict; see `schemas.cache.targets`
    truncated: bool
    token_ids: np.ndarray  # [T] int32; T is 0 in a cache of sentence embeddings alone
    token_offsets: np.ndarray  # [T, 2] int32
    token_rows: np.ndarray  # [n, 2] int32: [start, end) of positions of tokens that have rows of hidden states
    words: np.ndarray  # [n, 2] int32
    noun_phrases: np.ndarray
    verb_phrases: np.ndarray
    turns: tuple[Turn, ...] = ()  # of a conversation, in order
    structure: str = ""  # what of a conversation its text does not say; see `schemas.cache.structure`

    def __repr__(self) -> str:
        """In one line: its arrays would fill a notebook."""
        return f"CachedSample({self.id!r}, {len(self.token_ids):,} tokens, {self.text!r})"

    def equals(self, other: "CachedSample") -> bool:
        """Whether all is the same, to the last offset."""
        pairs = ((getattr(self, field.name), getattr(other, field.name)) for field in fields(self))
        return all(np.array_equal(a, b) if isinstance(a, np.ndarray) else a == b for a, b in pairs)

    @property
    def is_conversation(self) -> bool:
        """A chat template has written the text, special tokens included."""
        return bool(self.turns or self.structure)
