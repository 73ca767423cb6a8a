"""Every reader of a cache's files, dozens of times over damage at random: it refuses by one of our errors, or reads.

Checksums are left out on purpose, as they are by whoever means harm: what a reader alone makes of its file is asked.
"""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xxhash

from schemas.cache.checksums import read_checksums
from schemas.cache.codec import CODECS
from schemas.cache.codec_files import CODEC_FILES
from schemas.cache.index import read_index
from schemas.cache.manifest import CacheManifest, read_manifest
from schemas.cache.open_shard import Shard
from schemas.cache.proof import prove_samples
from schemas.cache.sections import list_sections
from schemas.cache.shard import check_shard, read_shard
from schemas.cache.states import check_array, check_group
from schemas.cache.teacher_files import TEACHER_FILES
from schemas.errors import CacheError, StillroomError
from schemas.models.state_decoder import load_decoders
from schemas.models.teacher_head import load_teacher_head
from schemas.storage import lease as leases
from schemas.storage.lease import acquire_lease
from schemas.storage.lock import make_record, parse_lock
from tests.buckets import Bucket
from tests.caches import extend_here, extraction, publish_here, write_corpus
from tests.encoded import invent_cache
from tests.jobs.hostile import DAMAGES
from tests.tiny import TEXTS, tiny_llama, tiny_tokenizer
from tests.trainer.kept_texts.made import samples, texts_of
from trainer.kept_texts.segment import Segment, write_segment

TIMES = 60  # of each file
LEASES = 20  # each of some ten requests
CONTENT = [damage for name, damage in DAMAGES.items() if name.split()[0] in ("flip", "cut", "insert", "edit", "nest")]
SHARD, ADDED = "shards/00000", "added/1/shards/00000"


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of two layers, one of which was added; with a lock, and with kept tokens. In it, another of codes."""
    folder = tmp_path_factory.mktemp("fuzz")
    tiny_llama(folder / "teacher", tiny_tokenizer(folder / "teacher", "bpe", 300), hidden=8, layers=2, heads=2)
    corpus = write_corpus(folder / "corpus.jsonl", TEXTS[:4])
    for layers, make in (([1], publish_here), ([1, 2], extend_here)):
        make(extraction(folder / "cache", folder / "teacher", corpus, states={"hidden": layers, "mass": [2]}))
        if make is publish_here:
            invent_cache(folder / "cache", folder / "coded", 0.5, 0.5)
    (folder / "coded").rename(folder / "cache" / "coded")
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


def read_codes(cache: Path, manifest: CacheManifest) -> None:
    """Codes and tables, to the numbers that a student would learn."""
    coded, of_coded = cache / "coded", read_manifest(cache / "coded")
    (array,) = (array for array in of_coded.arrays if array.encoding == "rvq")
    states = coded / SHARD / "states.zarr"
    rows = read_shard(coded / SHARD, of_coded.fingerprint).rows(array)
    check_array(states, array, rows)
    found = CODECS.find(array.encoding).read(states, array, rows)[0:rows]
    decoder = load_decoders(coded, of_coded)[array.kind, array.layer]
    numbers = decoder.states(torch.from_numpy(found.data.copy()), torch.from_numpy(found.sizes.astype(np.int32)))
    assert numbers.shape == (rows, array.width)


def read_tables(cache: Path, manifest: CacheManifest) -> None:
    """With a record that fits them, as whoever means harm would leave it."""
    record = cache / "coded" / "codecs" / "files.json"
    sound = record.read_bytes()
    try:
        CODEC_FILES.write_record(record.parent)
        read_codes(cache, manifest)
    finally:
        record.write_bytes(sound)


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
    "coded/codecs/files.json": lambda cache, manifest: CODEC_FILES.check(cache / "coded"),
    "coded/codecs/hidden-1.safetensors": read_tables,
    f"coded/{SHARD}/states.zarr/hidden/1/zarr.json": read_codes,
    f"coded/{SHARD}/states.zarr/hidden/1/sizes/zarr.json": read_codes,
    f"coded/{SHARD}/states.zarr/hidden/1/sizes/c/0": read_codes,
    f"coded/{SHARD}/states.zarr/hidden/1/starts/c/0": read_codes,
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


def test_a_damaged_lease_is_respected_or_taken_over(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That of this process, which is at work, says whose it is; one that cannot be read is somebody's."""
    monkeypatch.setattr(leases, "SETTLE_SECONDS", 0.01)
    path, sound, refused = tmp_path / "lease", make_record().model_dump_json().encode(), 0
    for number in range(LEASES):
        chance = random.Random(f"lease {number}")
        path.write_bytes(sound)
        chance.choice(CONTENT)(path, chance)
        bucket.put(".writer", path.read_bytes())
        try:
            acquire_lease(f"{bucket.url}/.writer", CacheError).release()
        except CacheError as busy:
            assert "seen" in str(busy)
            refused += 1
            bucket.remove(".writer")
        assert bucket.keys() == [], f"damage {number}"
    assert refused > LEASES // 10
