"""Opening and reading a made-up cache: every refusal whole, and what is hashed, mapped and kept, and how long."""

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import schemas.cache.reader
from schemas.cache.reader import Cache
from schemas.cache.ways_out import redo
from schemas.errors import CacheError, PairingError
from tests.caches import without_checksums

GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "cache-1"
HELD = "(it holds hidden/1, mass/1)"


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return Path(shutil.copytree(GOLDEN, tmp_path / "cache"))


def said(cache: Cache, ask: str, *arguments: object) -> str:
    with pytest.raises(CacheError) as refused:
        getattr(cache, ask)(*arguments)
    return str(refused.value)


def test_what_a_cache_does_not_hold_is_named() -> None:
    cache = Cache(GOLDEN)
    assert said(cache, "position", "s9") == f"{GOLDEN} holds no sample 's9'"
    layer = f"{GOLDEN} holds no hidden/9 {HELD}; run `stillroom extend` with that layer in `states`, too"
    assert said(cache, "array", "hidden", 9) == layer
    assert (
        said(cache, "arrays_of", "top_k")
        == f"{GOLDEN} holds no top_k {HELD}; run `stillroom extend` with it in `states`, too"
    )
    assert cache.arrays_of("hidden") == [cache.array("hidden", 1)] and cache.array("mass", 1).width is None


def test_positions_run_over_the_index() -> None:
    cache = Cache(GOLDEN)
    wanted = json.loads((GOLDEN.parent / "cache-1.json").read_text())["samples"]
    assert len(cache) == len(wanted) == 4
    assert cache.positions == {f"s{number}": number for number in range(4)} and cache.position("s2") == 2
    assert cache.shards.tolist() == [0, 1, 2, 3] and cache.rows.tolist() == [0, 0, 0, 0]
    assert cache.tokens.tolist() == [len(sample["token_ids"]) for sample in wanted]


def test_an_index_of_other_tokens_is_caught(copy: Path) -> None:
    table = pq.read_table(copy / "index.parquet")
    counts = table.column("tokens").to_pylist()
    changed = table.set_column(3, table.schema.field(3), pa.array([*counts[:2], counts[2] + 1, counts[3]], pa.int32()))
    pq.write_table(changed, copy / "index.parquet")
    cache = Cache(copy)
    assert cache.sample(1).id == "s1"
    with pytest.raises(PairingError) as refused:
        cache.sample(2)
    assert str(refused.value) == (
        f"the index does not list the samples of {copy}/shards/00002 as they lie there; run `stillroom reindex {copy}`"
    )


@pytest.mark.parametrize("change", ["id", "tokens"])
def test_a_sample_that_is_not_the_index_s_is_named(copy: Path, change: str) -> None:
    """Even where the shard was found in order when it was opened."""
    cache = Cache(copy)
    sample = cache.sample(1)
    count = len(sample.token_ids)
    if change == "id":
        cache.ids = pa.array(["s0", "x", "s2", "s3"])
    else:
        cache.tokens = cache.tokens + 1
    with pytest.raises(PairingError) as refused:
        cache.sample(1)
    wanted = f"'x' of {count}" if change == "id" else f"'s1' of {count + 1}"
    assert str(refused.value) == (
        f"{copy}/shards/00001 row 0 holds sample 's1' of {count} tokens, the index says {wanted}; "
        f"run `stillroom reindex {copy}`"
    )


def test_numbers_are_rows_of_their_sample(copy: Path) -> None:
    cache = Cache(copy)
    for position in range(4):
        shard = cache.shard(position)
        found = cache.states(position, cache.manifest.arrays)
        for values, array in zip(found, cache.manifest.arrays, strict=True):
            np.testing.assert_array_equal(values, shard.array(array))
    assert cache.states(0, []) == []


@pytest.mark.parametrize("name", ["samples.arrow", "states.zarr/hidden/1/c/0/0", "states.zarr/mass/1/c/0"])
def test_a_flipped_bit_is_named_when_its_file_is_touched(copy: Path, name: str) -> None:
    path = copy / "shards/00002" / name
    content = bytearray(path.read_bytes())
    content[-9] ^= 4
    path.write_bytes(content)
    cache = Cache(copy)
    cache.states(1, cache.manifest.arrays)
    shard = path.parents[len(Path(name).parts) - 1]
    for _ in range(2):  # what failed was not taken as checked
        with pytest.raises(CacheError) as refused:
            cache.states(2, cache.manifest.arrays)
        assert str(refused.value) == f"{path} does not have its checksum; {redo(shard)}"


def test_a_record_that_was_altered_is_named_in_a_sealed_cache(copy: Path) -> None:
    from schemas.cache.index import write_index
    from schemas.cache.manifest import read_manifest

    write_index(copy, read_manifest(copy))  # seals it
    path = copy / "shards/00003/shard.json"
    path.write_text(path.read_text() + " ")
    cache = Cache(copy)
    cache.sample(0)
    with pytest.raises(CacheError, match=r"00003/shard\.json does not have its checksum; run `stillroom repair "):
        cache.sample(3)
    Cache(without_checksums(copy)).sample(3)


def test_what_is_open_stays_open_within_bounds(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = Cache(copy)
    limit = int(Path("/proc/sys/vm/max_map_count").read_text()) // 4
    assert cache.shard.cache_info().maxsize == limit // 4
    assert cache._mapped.cache_info().maxsize == limit - limit // 4
    assert cache._in_memory.cache_info().maxsize == 512 and cache._sections[0].whole_record.cache_info().maxsize == 8
    monkeypatch.setattr(schemas.cache.reader, "MAX_MAP_COUNT", copy / "nobody says")
    assert Cache(copy)._mapped.cache_info().maxsize == 16_382 - 4_095
    (copy / "nobody says").write_text("many")
    assert Cache(copy).shard.cache_info().maxsize == 4_095


def test_a_shard_s_record_keeps_no_checksums(copy: Path) -> None:
    cache = Cache(copy)
    cache.states(0, cache.manifest.arrays)
    assert cache.shard(0).record.files == {} and cache._sections[0].whole_record(0).files != {}
    assert cache._mapped.cache_info().currsize == 2 and cache._in_memory.cache_info().currsize == 0
