"""samples.arrow and index.parquet: texts, tokens and spans. Offsets count Unicode code points, as Python does."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

VERSION_KEY = b"stillroom-samples"
VERSION_VALUE = b"1"

# [n, 2] pairs of [start, end) in the sample's text.
Offsets = pa.list_(pa.list_(pa.int32(), 2))

SAMPLES_SCHEMA = pa.schema(
    [
        pa.field("sample_id", pa.string(), nullable=False),
        pa.field("text", pa.string(), nullable=False),  # prompt + response, cut where the teacher's tokens end
        pa.field("prompt_end", pa.int32(), nullable=False),  # the response is text[prompt_end:]
        pa.field("truncated", pa.bool_(), nullable=False),
        pa.field("token_ids", pa.list_(pa.int32()), nullable=False),
        pa.field("token_offsets", Offsets, nullable=False),  # special tokens have an empty range
        pa.field("words", Offsets, nullable=False),
        pa.field("noun_phrases", Offsets, nullable=False),
        pa.field("verb_phrases", Offsets, nullable=False),
        pa.field("row_start", pa.int64(), nullable=False),  # first row of this sample in every array of states.zarr
        pa.field("row_count", pa.int32(), nullable=False),  # equals len(token_ids)
    ],
    metadata={VERSION_KEY: VERSION_VALUE},
)

INDEX_SCHEMA = pa.schema(
    [
        pa.field("sample_id", pa.string(), nullable=False),
        pa.field("shard", pa.int32(), nullable=False),
        pa.field("row", pa.int32(), nullable=False),  # row of samples.arrow
        pa.field("tokens", pa.int32(), nullable=False),
    ],
    metadata={b"stillroom-index": b"1"},
)


@dataclass(frozen=True)
class CachedSample:
    """One sample as the pipeline wrote it. Offsets count characters of `text`."""

    id: str
    text: str
    prompt_end: int
    truncated: bool
    token_ids: np.ndarray  # [T] int32; T is 0 in a cache of sentence embeddings alone
    token_offsets: np.ndarray  # [T, 2] int32
    words: np.ndarray  # [n, 2] int32
    noun_phrases: np.ndarray
    verb_phrases: np.ndarray
