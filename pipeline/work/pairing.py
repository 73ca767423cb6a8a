"""Before arrays are added to a unit: the samples that its cache holds are those that the teacher has read now."""

import numpy as np

from pipeline.work.annotate import AnnotatedUnit
from schemas.cache.hollow import bring_samples
from schemas.cache.open_shard import Shard
from schemas.cache.sections import Section
from schemas.cache.seen_shard import SeenShard
from schemas.cache.shard import SAMPLES, find_shard
from schemas.cache.ways_out import redo
from schemas.errors import CacheError
from schemas.storage.blocks import check_blocks


def require_same_samples(first: Section, unit: AnnotatedUnit) -> str:
    """SHA-256 of the samples.arrow of `unit` in the section that holds the texts, which is read.

    Raises StorageError; CacheError: it is missing or damaged, or holds other samples, tokens or rows than `unit`.
    """
    path = first.shard(unit.number)
    record, sha256 = find_shard(path, first.manifest)
    bring_samples(first.folder, {unit.number: SeenShard.of(record, sha256)})
    check_blocks(path / SAMPLES, record.files[SAMPLES], redo(path))
    held = Shard(path, record)
    same = (record.samples, record.overlong) == (len(unit.samples), unit.counts.overlong)
    for row, sample in enumerate(unit.samples if same else ()):
        kept = held.sample(row)
        same = same and (kept.id, kept.text, kept.truncated) == (sample.id, sample.text, sample.truncated)
        for name in ("targets", "token_ids", "token_offsets", "token_rows"):
            same = same and np.array_equal(getattr(kept, name), getattr(sample, name))
    if not same:
        raise CacheError(
            f"{path / SAMPLES} holds other samples than the corpus gives for unit {unit.number} here and now, or cut "
            "into other tokens: nothing can be added to them; extract to another output"
        )
    return record.files[SAMPLES].sha256
