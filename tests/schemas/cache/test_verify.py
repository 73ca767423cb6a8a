"""`stillroom verify` against damage: whichever bit is wrong is found, by an error of ours and never by a crash."""

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jobs.verify import verify_cache
from schemas.cache.checksums import CHECKSUMS
from schemas.cache.reader import Cache
from schemas.errors import CacheError, StillroomError
from tests.caches import build_cache, extraction, smallest_cache, without_checksums, write_corpus
from tests.tiny import tiny_bert, tiny_tokenizer

GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "cache-1"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three samples, a layer 8 wide: small enough to be verified thousands of times."""
    folder = tmp_path_factory.mktemp("tiny")
    return smallest_cache(folder, 3, 20)


@pytest.fixture(scope="module")
def pooled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nothing but sentence embeddings: no sample has a token that could be counted."""
    folder = tmp_path_factory.mktemp("pooled")
    tiny_bert(folder / "teacher", tiny_tokenizer(folder / "teacher", "wordpiece"), layers=1)
    corpus = write_corpus(folder / "corpus.jsonl")
    states = {"hidden": [], "mass": [], "pooled": {"pooling": "mean"}}
    return build_cache(
        extraction(folder / "cache", folder / "teacher", corpus, states=states, teacher={"kind": "encoder"})
    )


def flip(path: Path, place: int, bit: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1 << bit
    path.unlink()  # a new file in its place: after an error, Arrow's threads may for a while read the old one's map
    path.write_bytes(content)


@contextmanager
def flipped(path: Path, place: int, bit: int) -> Iterator[None]:
    flip(path, place, bit)
    try:
        yield
    finally:
        flip(path, place, bit)


@pytest.mark.parametrize("in_a_file", [3, pytest.param(42, marks=pytest.mark.long)])
def test_whichever_bit_is_wrong_is_found(tiny: Path, tmp_path: Path, in_a_file: int) -> None:
    cache = Path(shutil.copytree(tiny, tmp_path / "cache"))
    paths = sorted(path for path in cache.rglob("*") if path.is_file())
    assert len(paths) > 20
    missed, found = [], 0
    for path in paths:
        size = path.stat().st_size
        for number, place in enumerate(range(0, size, max(1, size // in_a_file))):
            with flipped(path, place, number % 8):
                try:
                    verify_cache(cache)
                    missed.append(f"{path.relative_to(cache)}: bit {number % 8} of byte {place}")
                except StillroomError as error:
                    assert str(cache) in str(error)
                    found += 1
    assert missed == [] and found > 12 * in_a_file
    verify_cache(cache)


def test_samples_are_hashed_before_arrow_reads_them(tmp_path: Path) -> None:
    """This bit made Arrow end the process by SIGSEGV; all shards with damage are named, whatever it is."""
    cache = Path(shutil.copytree(GOLDEN, tmp_path / "cache"))
    for unit in (0, 2):
        flip(cache / f"shards/0000{unit}/samples.arrow", 2079, 0)
    flip(cache / "shards/00003/states.zarr/mass/1/c/0", 5, 3)
    with pytest.raises(CacheError) as caught:
        verify_cache(cache)
    lines = str(caught.value).splitlines()
    assert lines[0] == "3 of 4 shards are damaged:"
    assert [line.endswith("does not have its checksum") for line in lines[1:4]] == [True] * 3
    assert [f"shards/0000{unit}/" in line for unit, line in zip((0, 2, 3), lines[1:4], strict=True)] == [True] * 3
    way_out = "is of format 1, which is not written any more: bring the damaged files back from another copy of it, or"
    assert lines[4:] == [f"{cache} {way_out} extract to another output"]


@pytest.mark.parametrize("place", range(2050, 2400, 5))
def test_samples_that_are_damaged_are_refused_before_arrow_reads_them(place: int, tmp_path: Path) -> None:
    """Without `verify`, too: some of these bits made Arrow read beyond the end of the file."""
    cache = Path(shutil.copytree(GOLDEN, tmp_path / "cache"))
    flip(cache / "shards/00000/samples.arrow", place, place % 8)
    with pytest.raises(CacheError, match=r"shards/00000/samples\.arrow does not have its checksum"):
        Cache(cache).sample(0)


def test_an_index_of_an_encoding_that_arrow_does_not_know_is_named(tmp_path: Path) -> None:
    cache = Path(shutil.copytree(GOLDEN, tmp_path / "cache"))
    flip(cache / "index.parquet", 3024, 0)
    with pytest.raises(CacheError, match=r"cannot read .*index\.parquet: .*; run `stillroom reindex"):
        verify_cache(cache)


def cut(table: pa.Table) -> pa.Table:
    return table.slice(0, len(table) - 1)


def one_twice(table: pa.Table) -> pa.Table:
    return table.take([0, 0, *range(2, len(table))])


def exchanged(table: pa.Table) -> pa.Table:
    return table.take([1, 0, *range(2, len(table))])


def one_too_many(table: pa.Table) -> pa.Table:
    return pa.concat_tables([table, table.slice(0, 1)])


def beyond(table: pa.Table) -> pa.Table:
    rows = table.column("row").to_numpy().copy()
    rows[-1] += 1
    return table.set_column(2, table.schema.field(2), pa.array(rows, pa.int32()))


@pytest.mark.parametrize("change", [cut, one_twice, exchanged, one_too_many, beyond])
@pytest.mark.parametrize("kept", ["tiny", "pooled"])
def test_an_index_lists_every_row_once(
    kept: str, change: Callable[[pa.Table], pa.Table], tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    cache = without_checksums(Path(shutil.copytree(request.getfixturevalue(kept), tmp_path / "cache")))
    table = pq.read_table(cache / "index.parquet")
    pq.write_table(change(table), cache / "index.parquet")
    said = r"does not list (each|every) .*rows? .*once and in order"
    if (kept, change) == ("tiny", cut):  # its last shard has one sample
        said = r"leaves out the 1 samples of shard \d+"
    with pytest.raises(CacheError, match=rf"{said}; run `stillroom"):
        verify_cache(tmp_path / "cache")


def test_rows_of_the_index_are_where_samples_lie(tiny: Path) -> None:
    cache = Cache(tiny)
    assert len(np.unique(cache.shards)) == cache.manifest.units > 1
    for position, (unit, row) in enumerate(zip(cache.shards, cache.rows, strict=True)):
        assert cache.shard(int(unit)).sample(int(row)).id == cache.sample(position).id


def test_a_seal_that_sums_up_otherwise_is_found(tiny: Path, tmp_path: Path) -> None:
    cache = Path(shutil.copytree(tiny, tmp_path / "cache"))
    seal = json.loads((cache / CHECKSUMS).read_text())
    size = seal["totals"]["bytes"]
    seal["totals"]["bytes"] += 1
    (cache / CHECKSUMS).write_text(json.dumps(seal))
    with pytest.raises(
        CacheError, match=rf"hold together \(bytes: found {size + 1}, wanted {size}\); remove it and run"
    ):
        verify_cache(cache)
