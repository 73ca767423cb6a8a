"""Every reader of a cache's files, dozens of times over damage at random: it refuses by one of our errors, or reads.

Checksums are left out on purpose, as they are by whoever means harm: what a reader alone makes of its file is asked.
"""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import xxhash

from schemas.cache.checksums import read_checksums
from schemas.cache.index import read_index
from schemas.cache.manifest import CacheManifest, read_manifest
from schemas.cache.open_shard import Shard
from schemas.cache.proof import prove_samples
from schemas.cache.sections import list_sections
from schemas.cache.shard import check_shard, read_shard
from schemas.cache.states import check_array, check_group
from schemas.cache.teacher_files import TEACHER_FILES
from schemas.errors import StillroomError
from schemas.models.teacher_head import load_teacher_head
from schemas.storage.lock import make_record, parse_lock
from tests.caches import extend_here, extraction, publish_here, write_corpus
from tests.jobs.hostile import DAMAGES
from tests.tiny import TEXTS, tiny_llama, tiny_tokenizer
from tests.trainer.kept_texts.made import samples, texts_of
from trainer.kept_texts.segment import Segment, write_segment

TIMES = 60  # of each file
CONTENT = [damage for name, damage in DAMAGES.items() if name.split()[0] in ("flip", "cut", "insert", "edit", "nest")]
SHARD, ADDED = "shards/00000", "added/1/shards/00000"


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of two layers, one of which was added; with a lock, and with kept tokens."""
    folder = tmp_path_factory.mktemp("fuzz")
    tiny_llama(folder / "teacher", tiny_tokenizer(folder / "teacher", "bpe", 300), hidden=8, layers=2, heads=2)
    corpus = write_corpus(folder / "corpus.jsonl", TEXTS[:4])
    for layers, make in (([1], publish_here), ([1, 2], extend_here)):
        make(extraction(folder / "cache", folder / "teacher", corpus, states={"hidden": layers, "mass": [2]}))
    (folder / "cache" / ".writer").write_text(make_record().model_dump_json())
    (folder / "cache" / "kept").mkdir()
    write_segment(folder / "cache" / "kept", "0", texts_of(samples(3))).rename(folder / "cache" / "kept" / "segment")
    return folder / "cache"


def read_samples(cache: Path, manifest: CacheManifest) -> None:
    shard = Shard(cache / SHARD, read_shard(cache / SHARD, manifest.fingerprint_of(0)))
    prove_samples(shard, manifest.teacher)
    for row in range(shard.record.samples):
        shard.sample(row)


def read_arrays(cache: Path, manifest: CacheManifest) -> None:
    for section in list_sections(cache, manifest):
        check_group(section.shard(0) / "states.zarr")
        for array in section.manifest.arrays:
            record = read_shard(section.shard(0), section.manifest.fingerprint_of(0))
            check_array(section.shard(0) / "states.zarr", array, record.rows(array))


def read_added(cache: Path, manifest: CacheManifest) -> None:
    section = list_sections(cache, manifest)[1]
    check_shard(section.shard(0), section.manifest)


def read_kept(cache: Path, manifest: CacheManifest) -> None:
    """By the name that its content has now."""
    content = (cache / "kept" / "segment").read_bytes()
    path = cache / "kept" / f"{xxhash.xxh3_128_hexdigest(content)}.arrow"
    path.write_bytes(content)
    try:
        segment = Segment(path, "0")
        for row in range(len(segment.keys)):
            segment.text(row, 0)
    finally:
        path.unlink()


READERS: dict[str, Callable[[Path, CacheManifest], Any]] = {
    "cache.json": lambda cache, manifest: read_manifest(cache).by_arrival(),
    "checksums.json": read_checksums,
    "index.parquet": lambda cache, manifest: read_index(cache, manifest, None),
    "teacher/files.json": lambda cache, manifest: TEACHER_FILES.read_record(cache),
    "teacher/unembedding.safetensors": load_teacher_head,
    f"{SHARD}/shard.json": lambda cache, manifest: check_shard(cache / SHARD, manifest.by_arrival()[0]),
    f"{SHARD}/samples.arrow": read_samples,
    f"{SHARD}/states.zarr/hidden/1/zarr.json": read_arrays,
    f"{ADDED}/shard.json": read_added,
    f"{ADDED}/states.zarr/zarr.json": read_arrays,
    ".writer": lambda cache, manifest: parse_lock((cache / ".writer").read_bytes()),
    "kept/segment": read_kept,
}


@pytest.mark.parametrize("name", READERS)
def test_damage_is_refused_or_reads(cache: Path, name: str) -> None:
    read, manifest, path = READERS[name], read_manifest(cache), cache / name
    sound, refused = path.read_bytes(), 0
    read(cache, manifest)
    try:
        for number in range(TIMES):
            chance = random.Random(f"{name} {number}")
            path.unlink()  # an old map may still be open
            path.write_bytes(sound)
            chance.choice(CONTENT)(path, chance)
            try:
                read(cache, manifest)
            except StillroomError:
                refused += 1
            except Exception as error:
                raise AssertionError(f"{name}, damage {number}: {type(error).__name__}: {error}") from error
    finally:
        path.unlink()
        path.write_bytes(sound)
    assert refused > TIMES // 10 or name == ".writer"  # where what cannot be read is nobody's
