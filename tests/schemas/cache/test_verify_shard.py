"""`verify` of one shard and of the index, on made-up numbers: which row, which unit, which count is wrong."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from schemas.cache.arrays import ArrayRecord
from schemas.cache.checksums import read_checksums
from schemas.cache.index import write_index
from schemas.cache.manifest import CacheManifest, CorpusRecord
from schemas.cache.verify import ProvenShard, verify_index, verify_shard, verify_shards
from schemas.cache.ways_out import redo
from schemas.cache.writer import write_manifest, write_shard
from schemas.errors import CacheError
from tests.caches import as_recorded
from tests.shards import PRINT, manifest, samples

LENGTHS = ([3, 5], [1, 2, 3])
IDS = ArrayRecord(kind="sampled/ids", layer=2, width=3, dtype="int32")
WEIGHTS = ArrayRecord(kind="sampled/weights", layer=2, width=3, dtype="float32")
POOLED = ArrayRecord(kind="pooled", layer=1, width=4, dtype="float16", encoding="zstd")


def full_manifest() -> CacheManifest:
    """Of two shards with hidden states, masses, draws and sentence embeddings of made-up texts."""
    sparse = {"temperature": 1.0, "entries": 3, "proposal": 1.0, "seed": 0}
    return CacheManifest.model_validate(
        manifest(2).model_dump()
        | {
            "arrays": [array.model_dump() for array in (*manifest(2).arrays, IDS, WEIGHTS, POOLED)],
            "sparse": {"sampled": sparse},
            "pooled": {"pooling": "last", "normalise": False, "layer": 1},
            "corpus": {"samples": 6, "empty": 0, "sha256": "0"},
        }
    )


def sound_states(lengths: Sequence[int]) -> dict[str, np.ndarray]:
    tokens = sum(lengths)
    return {
        "hidden/2": np.full((tokens, 16), 0x3F80, "<u2"),
        "mass/2": np.concatenate([np.full(length, 1 / length, "<f4") for length in lengths]),
        "sampled/ids": np.full((tokens, 3), 8, "<i4"),
        "sampled/weights": np.ones((tokens, 3), "<f4"),
        "pooled/1": np.ones((len(lengths), 4), "<f2"),
    }


def make(cache: Path, change: Callable[[dict[str, np.ndarray]], object] = dict) -> Path:
    """A sealed cache; `change` acts on the second shard's states before they are written."""
    whole = full_manifest()
    write_manifest(cache, whole)
    for unit, lengths in enumerate(LENGTHS):
        states = sound_states(lengths)
        if unit == 1:
            change(states)
        texts = [replace(sample, truncated=False) for sample in samples(f"u{unit}-", lengths)]
        write_shard(cache, unit, texts, states, whole.arrays, PRINT, 1 - unit)
    write_index(cache, whole)
    return cache


def proven(cache: Path) -> list[ProvenShard]:
    found = [shard for shard in verify_shards(cache, full_manifest(), None) if isinstance(shard, ProvenShard)]
    assert len(found) == 2
    return found


def test_a_proven_shard_is_what_the_index_must_say(tmp_path: Path) -> None:
    first, second = proven(make(tmp_path))
    assert first.ids.to_pylist() == ["u0-0", "u0-1"] and second.ids.to_pylist() == ["u1-0", "u1-1", "u1-2"]
    assert first.ids.type == pa.string() and second.tokens.tolist() == [1, 2, 3]
    assert (first.record.samples, first.record.overlong, first.record.files) == (2, 1, {})
    assert second.tokens.flags.owndata and second.record.unit == 1
    verify_index(tmp_path, full_manifest(), read_checksums(tmp_path, full_manifest()), [first, second])


def setting(name: str, row: Any, value: float) -> Callable[[dict[str, np.ndarray]], None]:
    def change(states: dict[str, np.ndarray]) -> None:
        states[name][row] = value

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (setting("hidden/2", (4, 15), 0x7F80), "hidden/2 row 4 is not finite"),
        (setting("hidden/2", (0, 0), 0xFFC0), "hidden/2 row 0 is not finite"),
        (setting("mass/2", 5, np.nan), "mass/2 row 5 is not finite"),
        (setting("sampled/weights", (2, 1), np.inf), "sampled/weights row 2 is not finite"),
        (setting("pooled/1", (2, 3), np.inf), "pooled/1 row 2 is not finite"),
        (setting("mass/2", 3, -0.1), "mass/2: row 3 is a negative mass"),
        (setting("sampled/ids", (4, 2), 9), "sampled: row 4 is not a distribution"),
        (setting("sampled/weights", (1, 0), -1), "sampled: row 1 is not a distribution"),
    ],
)
def test_the_array_and_its_row_are_named(
    tmp_path: Path, change: Callable[[dict[str, np.ndarray]], None], said: str
) -> None:
    make(tmp_path, change)
    shard = tmp_path / "shards/00001"
    with pytest.raises(CacheError) as refused:
        verify_shard(tmp_path, 1, full_manifest(), None)
    assert str(refused.value) == f"{shard}: {said}; {redo(shard)}"
    first, second = verify_shards(tmp_path, full_manifest(), None)
    assert isinstance(first, ProvenShard) and str(second) == str(refused.value)


def test_a_long_shard_is_judged_in_blocks(tmp_path: Path) -> None:
    """Just before and just behind the first 65,536 rows."""
    states = {"hidden/2": np.zeros((65_540, 16), "<u2"), "mass/2": np.zeros(65_540, "<f4")}
    for row in (65_535, 65_536, 65_539):
        states["hidden/2"][:] = 0
        states["hidden/2"][row, 3] = 0x7F81
        cache = tmp_path / str(row)
        write_shard(cache, 0, samples("a", [65_540]), states, manifest(1).arrays, PRINT, 0)
        with pytest.raises(CacheError, match=f"hidden/2 row {row} is not finite"):
            teacher = manifest(1).teacher.model_copy(update={"vocab_size": 70_000})
            verify_shard(cache, 0, manifest(1).model_copy(update={"teacher": teacher}), None)


def test_a_file_beside_the_others_is_hashed_too(tmp_path: Path) -> None:
    shard = make(tmp_path) / "shards/00001"
    path = shard / "states.zarr/hidden/zarr.json"
    path.write_bytes(path.read_bytes().replace(b"group", b"grape"))
    with pytest.raises(CacheError) as refused:
        verify_shard(tmp_path, 1, full_manifest(), None)
    assert str(refused.value) == f"{path} does not have its checksum; {redo(shard)}"


@pytest.mark.parametrize(("name", "key"), [("zarr.json", "attributes"), ("mass/2/zarr.json", "shape")])
def test_metadata_is_judged_under_a_right_checksum(tmp_path: Path, name: str, key: str) -> None:
    shard = make(tmp_path) / "shards/00001"
    path = shard / "states.zarr" / name
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: "x"}))
    as_recorded(shard, f"states.zarr/{name}")
    with pytest.raises(CacheError, match=rf"{name} (is damaged: TypeError|says {key})"):
        verify_shard(tmp_path, 1, full_manifest(), None)


def test_the_plan_is_whole(tmp_path: Path) -> None:
    shards = proven(make(tmp_path))
    corpus = CorpusRecord(samples=7, empty=0, sha256="0")
    with pytest.raises(CacheError) as refused:
        verify_index(tmp_path, full_manifest().model_copy(update={"corpus": corpus}), None, shards)
    assert str(refused.value) == (f"{tmp_path}: the shards account for 6 samples, cache.json says 7; extract again")


@pytest.mark.parametrize(
    "change",
    [
        lambda shard: replace(shard, ids=pa.array(["u1-0", "u1-2", "u1-1"])),
        lambda shard: replace(shard, tokens=np.array([1, 2, 4], np.int32)),
        lambda shard: replace(shard, tokens=np.array([1, 2], np.int32)),
    ],
)
def test_the_index_is_that_of_the_shards(tmp_path: Path, change: Callable[[ProvenShard], ProvenShard]) -> None:
    first, second = proven(make(tmp_path))
    with pytest.raises(CacheError) as refused:
        verify_index(tmp_path, full_manifest(), None, [first, change(second)])
    assert str(refused.value) == (
        f"{tmp_path}/index.parquet of 5 samples does not list each of the shards' 5 rows once and in order; run "
        f"`stillroom reindex {tmp_path}`"
    )


def test_the_index_has_rows_where_the_shards_have_them(tmp_path: Path) -> None:
    first, second = proven(make(tmp_path))
    moved = [
        replace(first, record=first.record.model_copy(update={"samples": 3}), ids=pa.array(["u0-0", "u0-1", "u1-0"])),
        replace(second, record=second.record.model_copy(update={"samples": 2}), ids=pa.array(["u1-1", "u1-2"])),
    ]
    with pytest.raises(CacheError, match="does not list each of the shards' 5 rows once and in order"):
        verify_index(tmp_path, full_manifest(), None, moved)


def test_ids_that_repeat_are_counted(tmp_path: Path) -> None:
    whole = full_manifest()
    write_manifest(tmp_path, whole)
    for unit, lengths in enumerate(LENGTHS):  # the first sample of both shards is called the same
        texts = [replace(sample, truncated=False) for sample in samples("u", lengths)]
        write_shard(tmp_path, unit, texts, sound_states(lengths), whole.arrays, PRINT, 1 - unit)
    write_index(tmp_path, whole)
    with pytest.raises(CacheError) as refused:
        verify_index(tmp_path, whole, None, proven(tmp_path))
    assert str(refused.value) == f"{tmp_path}: 5 samples have 3 ids; name every sample once and extract again"
