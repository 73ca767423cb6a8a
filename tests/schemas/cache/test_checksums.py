"""The manifest's copies, the index, teacher/ and every record are covered, in caches of now and of before."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import schemas.cache.checked_map
import schemas.storage.blocks
from jobs.extract import rebuild_index
from jobs.verify import verify_cache
from schemas.cache.checksums import read_checksums
from schemas.cache.manifest import read_manifest
from schemas.cache.reader import Cache
from schemas.cache.verify import ProvenShard, verify_shards
from schemas.errors import CacheError, PairingError, StillroomError
from schemas.models.teacher_head import load_teacher_head
from schemas.storage.blocks import hash_block
from schemas.storage.file_record import describe_file
from tests.caches import build_cache, extraction, without_checksums, write_corpus
from tests.tiny import TEXTS, tiny_llama, tiny_tokenizer


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checksums")
    tiny_llama(folder / "teacher", tiny_tokenizer(folder / "teacher", "bpe", 300), hidden=8, layers=2, heads=2)
    corpus = write_corpus(folder / "corpus.jsonl", TEXTS[:6])
    states = {"hidden": [1, 2], "mass": [2]}
    return build_cache(
        extraction(folder / "cache", folder / "teacher", corpus, states=states, batching={"unit_tokens": 20})
    )


@pytest.fixture
def copy(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "cache"))


def edit(cache: Path, change: Callable[[dict[str, Any]], object]) -> None:
    content = json.loads((cache / "cache.json").read_text())
    change(content)
    (cache / "cache.json").write_text(json.dumps(content, indent=1) + "\n")


def test_a_sealed_cache_knows_its_small_files(made: Path) -> None:
    sealed = read_checksums(made, read_manifest(made))
    assert sealed is not None
    assert sealed.manifest == describe_file(made / "cache.json") and sealed.index == describe_file(
        made / "index.parquet"
    )
    assert sealed.teacher == describe_file(made / "teacher/files.json")
    records = sorted(made.glob("shards/*/shard.json"))
    assert sealed.shards == [describe_file(path).sha256 for path in records] and len(records) > 2
    # Every file of these shards is of one block.
    assert sealed.blocks == [sum(path.is_file() for path in record.parent.rglob("*")) - 1 for record in records]


def test_a_count_of_blocks_that_was_altered_is_noticed(copy: Path) -> None:
    path = copy / "checksums.json"
    content = json.loads(path.read_text())
    content["blocks"][1] += 1
    path.write_text(json.dumps(content))
    cache = Cache(copy)
    cache.shard(0)
    said = r"checksums\.json says that the files of shard 1 have \d+ blocks, and shard\.json lists \d+; remove"
    with pytest.raises(CacheError, match=said):
        cache.shard(1)
    with pytest.raises(CacheError, match=said):
        verify_cache(copy)
    content["blocks"].pop()
    path.write_text(json.dumps(content))
    with pytest.raises(CacheError, match=r"knows \d+ shards, cache\.json says"):
        Cache(copy)


def test_a_factor_on_the_logits_is_refused_at_opening(copy: Path) -> None:
    text = (copy / "cache.json").read_text()
    (copy / "cache.json").write_text(text.replace('"scale": 1.0', '"scale": 3.0'))
    with pytest.raises(CacheError, match=r"cache\.json does not have its checksum; run `stillroom extract`"):
        Cache(copy)


ALTERATIONS: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "scale": (lambda c: c["teacher"]["head"].update(scale=3.0), r"teacher\.head\.scale is 3\.0, and .* it is 1\.0"),
    "softcap": (lambda c: c["teacher"]["head"].update(softcap=30.0), r"teacher\.head\.softcap is 30\.0, and .* None"),
    "softcap 0": (lambda c: c["teacher"]["head"].update(softcap=0.0), r"teacher\.head\.softcap: Input should be great"),
    "bias": (lambda c: c["teacher"]["head"].update(bias=True), "does not hold the"),
    "dtype of the head": (lambda c: c["teacher"]["head"].update(dtype="float16"), r"teacher\.dtype: found"),
    "layers": (lambda c: c["teacher"].update(num_layers=3), r"teacher\.num_layers is 3, and .* it is 2"),
    "fewer layers": (lambda c: c["teacher"].update(num_layers=1), "hidden/2 is of layer 2 of 1"),
    "width": (lambda c: c["teacher"].update(hidden_size=9), r"teacher\.hidden_size is 9"),
    "vocabulary": (lambda c: c["teacher"].update(vocab_size=299), "does not hold the"),
    "kind": (lambda c: c["teacher"].update(kind="encoder"), r"teacher\.kind: found"),
    "dtype of an array": (lambda c: c["arrays"][0].update(dtype="float16"), r"states\.hidden/1\.dtype: found"),
    "columns": (lambda c: c["arrays"][0].update(width=-64), r"arrays\.0\.width: Input should be greater"),
    "an array less": (lambda c: c["arrays"].pop(), r"states: mass/2 is wanted and not found"),
    "annotator": (lambda c: c.update(annotator="x"), "annotator: found"),
    "corpus": (lambda c: c["corpus"].update(samples=7), r"corpus\.samples: found 7, wanted 6"),
    "embeddings": (
        lambda c: c["teacher"].update(embedding={"dtype": "float32", "rows": 9, "width": 8}),
        "keep_embeddings: found true, wanted null",
    ),
    "units": (lambda c: c.update(units=99), r"shards holds \d shards, cache\.json says 99"),
    "a great many units": (lambda c: c.update(units=10**12), "units: Input should be less"),
}


@pytest.mark.parametrize("name", ALTERATIONS)
def test_a_cache_of_before_is_proven_by_what_it_holds(copy: Path, name: str) -> None:
    change, said = ALTERATIONS[name]
    edit(without_checksums(copy), change)
    with pytest.raises(CacheError, match=said):
        load_teacher_head(copy, Cache(copy).manifest)


def test_the_tokenizer_of_a_cache_of_before_is_proven_by_its_identity(copy: Path) -> None:
    without_checksums(copy)
    load_teacher_head(copy, Cache(copy).manifest)
    path = copy / "teacher/tokenizer.json"
    path.write_text(path.read_text() + " ")
    with pytest.raises(CacheError, match=r"tokenizer in .* is not the one that the cache was made with"):
        load_teacher_head(copy, Cache(copy).manifest)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("checksums.json", r"checksums\.json is damaged: .*; remove it and run `stillroom reindex"),
        ("index.parquet", r"index\.parquet has \d+ bytes instead of \d+; run `stillroom reindex"),
        ("teacher/files.json", r"files\.json has .*; remove .*teacher and extract again"),
        ("teacher/tokenizer.json", r"tokenizer\.json has .*; remove .*teacher and extract again"),
        ("teacher/config.json", r"config\.json has .*; remove .*teacher and extract again"),
    ],
)
def test_a_cut_file_is_refused_at_opening(copy: Path, name: str, said: str) -> None:
    path = copy / name
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(CacheError, match=said):
        Cache(copy)
    if "reindex" in said:
        if name == "checksums.json":
            path.unlink()
        rebuild_index(copy)
        verify_cache(copy)


def test_a_matrix_of_the_teacher_is_checked_when_it_is_loaded(copy: Path) -> None:
    path = copy / "teacher/unembedding.safetensors"
    content = bytearray(path.read_bytes())
    content[-3] ^= 1
    path.write_bytes(content)
    manifest = Cache(copy).manifest
    with pytest.raises(CacheError, match=r"unembedding\.safetensors does not have its checksum"):
        load_teacher_head(copy, manifest)


def test_reindex_seals_nothing_that_was_altered(copy: Path) -> None:
    edit(copy, lambda content: content["teacher"]["head"].update(scale=3.0))
    with pytest.raises(CacheError, match=r"cache\.json .*; run `stillroom extract`"):
        rebuild_index(copy)


def test_reindex_seals_a_cache_of_before_with_the_same_index(made: Path, copy: Path) -> None:
    without_checksums(copy)
    rebuild_index(copy)
    assert (copy / "index.parquet").read_bytes() == (made / "index.parquet").read_bytes()
    sealed = read_checksums(copy, read_manifest(copy))
    assert sealed is not None and sealed == read_checksums(made, read_manifest(made))
    assert (copy / "teacher/files.json").read_bytes() == (made / "teacher/files.json").read_bytes()
    verify_cache(copy)


def test_an_index_that_exchanges_samples_is_caught_when_their_shard_is_touched(copy: Path) -> None:
    table = pq.read_table(without_checksums(copy) / "index.parquet")
    ids = table.column("sample_id").to_pylist()
    ids[-1], ids[-2] = ids[-2], ids[-1]
    pq.write_table(table.set_column(0, table.schema.field(0), pa.array(ids)), copy / "index.parquet")
    cache = Cache(copy)
    cache.sample(0)
    with pytest.raises(PairingError, match=r"does not list the samples of .* as they lie there"):
        cache.shard(int(cache.shards[-1]))


def test_what_one_process_checked_its_forks_take_as_checked(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checked: list[int] = []

    def hash_counted(content: memoryview) -> str:
        checked.append(len(content))
        return hash_block(content)

    for module in (schemas.storage.blocks, schemas.cache.checked_map):
        monkeypatch.setattr(module, "hash_block", hash_counted)
    cache = Cache(made)
    for touched_by_parent in (False, True):
        child = os.fork()
        if child == 0:
            try:
                for position in range(len(cache)):
                    cache.states(position, cache.manifest.arrays[:1])
                os._exit(len(checked))
            finally:
                os._exit(255)
        seen = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        # The first child hashes texts and one array of every shard; the second, forked later, nothing.
        assert seen == (len(checked) if touched_by_parent else 2 * cache.manifest.units)
        cache.states(0, cache.manifest.arrays[:1])
        assert checked == []


def test_shards_are_verified_in_order_on_any_number_of_threads(copy: Path) -> None:
    for unit in (0, 2):
        path = copy / f"shards/{unit:05d}/states.zarr/mass/2/c/0"
        path.write_bytes(path.read_bytes()[:-4] + b"\0\0\0\1")
    manifest = read_manifest(copy)
    sealed = read_checksums(copy, manifest)
    outcomes = []
    for threads in (1, 8):
        found = list(verify_shards(copy, manifest, sealed, threads))
        assert [isinstance(shard, ProvenShard) for shard in found] == [unit not in (0, 2) for unit in range(len(found))]
        outcomes.append([str(shard) if isinstance(shard, StillroomError) else shard.record for shard in found])
    assert outcomes[0] == outcomes[1]


def test_reading_after_the_check_is_the_numbers_themselves(made: Path) -> None:
    cache = Cache(made)
    first = [cache.states(position, cache.manifest.arrays) for position in range(len(cache))]
    again = [cache.states(position, cache.manifest.arrays) for position in range(len(cache))]
    for one, other in zip(first, again, strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))
