"""What a writer decides is seen in its files: the same samples and states give the same bytes."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from schemas.cache.arrays import ArrayRecord
from schemas.cache.halved import HalvedBatch
from schemas.cache.index import write_index
from schemas.cache.reader import Cache
from schemas.cache.samples import CachedSample, Turn
from schemas.cache.ways_out import redo
from schemas.cache.writer import write_manifest, write_shard
from schemas.errors import CacheError
from tests.shards import ARRAYS, PRINT, manifest, samples, states, write
from tests.stored import stored

GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "cache-1"
POOLED = ArrayRecord(kind="pooled", layer=1, width=4, dtype="float16", encoding="zstd")


def contents(folder: Path) -> dict[str, bytes]:
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def test_what_format_1_held_is_written_in_the_version_of_today(tmp_path: Path) -> None:
    """Numbers lie in the same bytes; records and group say the version."""
    golden = Cache(GOLDEN)
    known = golden.manifest
    write_manifest(tmp_path, known)  # which says what it is told
    assert (tmp_path / "cache.json").read_bytes() == (GOLDEN / "cache.json").read_bytes()
    for unit in range(known.units):
        shard = golden.shard(unit)
        texts = [shard.sample(row) for row in range(shard.record.samples)]
        arrays = {array.path: shard.array(array) for array in known.arrays}
        write_shard(tmp_path, unit, texts, arrays, known.arrays, known.fingerprint, shard.record.overlong)
    old, new = contents(GOLDEN / "shards"), contents(tmp_path / "shards")
    assert old.keys() == new.keys()
    changed = {name.partition("/")[2] for name in old if old[name] != new[name]}
    assert changed == {"samples.arrow", "shard.json", "states.zarr/zarr.json"}


def test_the_index_is_written_as_it_was(tmp_path: Path) -> None:
    """Beside its own name and version in it, which are those of whichever Arrow wrote it."""
    write(tmp_path, 0, (3, 5))
    write(tmp_path, 1, (), overlong=1)
    write(tmp_path, 2, (2,))
    write_manifest(tmp_path, manifest(3))
    assert write_index(tmp_path, manifest(3)) == 3
    found = pq.ParquetFile(tmp_path / "index.parquet").metadata
    kinds = {found.row_group(0).column(column).compression for column in range(4)}
    assert kinds == {"ZSTD"} and found.num_row_groups == 1
    assert pq.read_table(tmp_path / "index.parquet").to_pydict() == {
        "sample_id": ["u0-0", "u0-1", "u2-0"],
        "shard": [0, 0, 2],
        "row": [0, 1, 0],
        "tokens": [3, 5, 2],
    }


def pooled_only(cache: Path, texts: list[CachedSample]) -> Path:
    numbers = {"pooled/1": np.ones((len(texts), 4), "<f2")}
    record = write_shard(cache, 0, texts, numbers, [POOLED], PRINT, 0)
    assert (record.samples, record.tokens) == (len(texts), 0)
    return cache / "shards/00000/samples.arrow"


def test_without_rows_per_token_texts_stand_alone_and_compressed(tmp_path: Path) -> None:
    texts = [
        replace(
            sample,
            text=sample.text + "word and word again " * 1000,
            turns=(Turn(0, "user", "content", 0, 1), Turn(1, "x", "end", 1, 9)),
        )
        for sample in samples("s", [3, 5])
    ]
    path = pooled_only(tmp_path, texts)
    assert path.stat().st_size < len(texts[0].text)  # two texts of 20,000 characters
    table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
    assert table.column("text").to_pylist() == [sample.text for sample in texts]
    assert table.column("targets").to_pylist() == [sample.targets.tolist() for sample in texts] and table.column(
        "truncated"
    ).to_pylist() == [False, True]
    for name in ("token_ids", "token_offsets", "words", "noun_phrases", "verb_phrases"):
        assert table.column(name).to_pylist() == [[], []]
    assert table.column("row_start").to_pylist() == table.column("row_count").to_pylist() == [0, 0]


def test_halved_batches_stand_in_their_shard_alone(tmp_path: Path) -> None:
    batch = HalvedBatch(samples=2, tokens=8)
    record = write_shard(tmp_path, 0, samples("a", [3, 5]), states(8), ARRAYS, PRINT, 0, halved=[batch])
    assert "halved.json" in record.files and "shard.json" not in record.files
    assert "halved.json" not in write(tmp_path, 1).files


def test_numbers_of_any_layout_are_stored_alike(tmp_path: Path) -> None:
    """A view of every second row and column, in Fortran's order, of samples whose offsets are 64 bits wide."""
    wide = np.asfortranarray(np.arange(16 * 32, dtype="<u2").reshape(16, 32))
    arrays = {"hidden/2": wide[::2, ::2], "mass/2": np.linspace(0, 1, 16, dtype="<f4")[::2]}
    texts = [replace(sample, token_offsets=sample.token_offsets.astype(np.int64)) for sample in samples("a", [3, 5])]
    write_shard(tmp_path, 0, texts, arrays, ARRAYS, PRINT, 0)
    folder = tmp_path / "shards/00000/states.zarr"
    np.testing.assert_array_equal(stored(folder, "hidden/2"), wide[::2, ::2])
    table = pa.ipc.open_file(pa.memory_map(str(folder.parent / "samples.arrow"))).read_all()
    assert table.column("token_offsets").to_pylist() == [sample.token_offsets.tolist() for sample in texts]


def test_a_shard_of_another_cache_in_its_place_is_named(tmp_path: Path) -> None:
    write(tmp_path)
    with pytest.raises(CacheError) as refused:
        write_shard(tmp_path, 0, samples("a", [3, 5]), states(8), ARRAYS, "0" * 64, 0)
    shard = tmp_path / "shards/00000"
    assert str(refused.value) == f"{shard} belongs to another cache ({PRINT[:12]}, not {'0' * 12}); {redo(shard)}"


def test_a_writer_under_a_lock_marks_what_is_unfinished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that whoever holds the lock later knows whose temporary folders may go."""
    seen = list[str]()

    def stop(folder: Path, target: Path, last: str, kept: tuple[str, ...]) -> bool:
        seen.append(folder.name)
        raise KeyboardInterrupt

    monkeypatch.setattr("schemas.cache.writer.commit_folder", stop)
    for owner in ("", "c0ffee"):
        with pytest.raises(KeyboardInterrupt):
            write_shard(tmp_path, 7, samples("a", [3, 5]), states(8), ARRAYS, PRINT, 0, owner)
    assert [name.startswith(".00007-") and name.endswith(".tmp") for name in seen] == [True, True]
    assert "@" not in seen[0] and seen[1].endswith("@c0ffee.tmp")
