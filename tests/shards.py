"""Small shards of made-up numbers, without a teacher."""

from pathlib import Path

import numpy as np

from schemas.cache.arrays import ArrayRecord
from schemas.cache.manifest import CacheManifest, CorpusRecord
from schemas.cache.samples import CachedSample
from schemas.cache.shard import ShardRecord
from schemas.cache.teacher import TeacherRecord
from schemas.cache.token_rows import every_row
from schemas.cache.writer import write_shard
from schemas.storage.fingerprint import fingerprint

ARRAYS = [
    ArrayRecord(kind="hidden", layer=2, width=16, dtype="bfloat16"),
    ArrayRecord(kind="mass", layer=2, width=None, dtype="float32"),
]
IDENTITY = {"a": 1}
PRINT = fingerprint(IDENTITY)


def manifest(units: int) -> CacheManifest:
    return CacheManifest(
        fingerprint=PRINT,
        identity=IDENTITY,
        teacher=TeacherRecord(model="m", kind="causal", num_layers=2, hidden_size=16, vocab_size=9, max_tokens=8),
        annotator="none",
        arrays=ARRAYS,
        corpus=CorpusRecord(samples=2, empty=0, sha256="0"),
        units=units,
        provenance={},
    )


def samples(tag: str, lengths: list[int]) -> list[CachedSample]:
    pairs = np.array([[0, 1], [2, 4]], dtype=np.int32)
    none = np.empty((0, 2), dtype=np.int32)
    return [
        CachedSample(
            id=f"{tag}{i}",
            text=f"é 漢🙂{'x' * length}",
            targets=np.array([[2, 4 + length]], np.int32),
            truncated=i == 1,
            token_ids=np.arange(length, dtype=np.int32) + i,
            token_offsets=np.stack([np.arange(length), np.arange(length) + 1], axis=1).astype(np.int32),
            token_rows=every_row(length),
            words=pairs,
            noun_phrases=none,
            verb_phrases=pairs[:1],
        )
        for i, length in enumerate(lengths)
    ]


def states(tokens: int, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        "hidden/2": rng.integers(0, 2**16, (tokens, 16), dtype=np.uint16),
        "mass/2": rng.random(tokens, dtype=np.float32),
    }


def write(cache: Path, unit: int = 0, lengths: tuple[int, ...] = (3, 5), overlong: int = 0) -> ShardRecord:
    arrays = states(sum(lengths), unit)
    return write_shard(cache, unit, samples(f"u{unit}-", list(lengths)), arrays, ARRAYS, PRINT, overlong)
