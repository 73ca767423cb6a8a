"""What a writer of another kind may get wrong, under checksums that are right: named by `verify` and by a training."""

import json
import shutil
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from jobs.verify import verify_cache
from schemas.cache.index import write_index
from schemas.cache.manifest import read_manifest
from schemas.cache.reader import Cache
from schemas.errors import CacheError
from tests.caches import as_recorded, smallest_cache

Rows = list[Any]
TURN = {"message": 0, "role": "user", "part": "content", "start": 0, "end": 1}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("proof")
    return smallest_cache(folder, 6, 90)


def forge(cache: Path, column: str, change: Callable[[Rows], Rows], refusal: str | None = None) -> None:
    """Rewrite one column of the first shard, mend its checksum, and seal the cache anew; or see that refused, which
    leaves the seal of before."""
    shard = cache / "shards/00000"
    with pa.OSFile(str(shard / "samples.arrow")) as source:
        table = pa.ipc.open_file(source).read_all()
    place = table.column_names.index(column)
    field = table.schema.field(place)
    table = table.set_column(place, field, pa.array(change(table.column(column).to_pylist()), field.type))
    with pa.OSFile(str(shard / "samples.arrow"), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_batch(table.combine_chunks().to_batches()[0])
    as_recorded(shard, "samples.arrow")
    with nullcontext() if refusal is None else pytest.raises(CacheError, match=refusal):
        write_index(cache, read_manifest(cache))


def at(row: int, change: Callable[[Any], Any]) -> Callable[[Rows], Rows]:
    return lambda rows: [change(value) if number == row else value for number, value in enumerate(rows)]


FORGERIES: dict[str, tuple[str, Callable[[Rows], Rows], str]] = {
    "offsets beyond the text": ("token_offsets", at(1, lambda v: [[10**8, 10**8 + 1]] * len(v)), "offsets leave its"),
    "an offset one too far": ("token_offsets", at(1, lambda v: [*v[:-1], [v[-1][0], v[-1][1] + 1]]), "offsets leave"),
    "a negative offset": ("token_offsets", at(0, lambda v: [[-1, 0], *v[1:]]), "token offsets leave its text"),
    "an offset that ends before it starts": ("token_offsets", at(0, lambda v: [[1, 0], *v[1:]]), "offsets leave its"),
    "offsets that run backwards": ("token_offsets", at(1, lambda v: [v[0], v[2], v[1], *v[3:]]), "run backwards"),
    "one offset too few": ("token_offsets", at(1, lambda v: v[:-1]), "number of rows is not that of its token_offsets"),
    "a target before the text": ("targets", at(1, lambda v: [[-3, 2]]), "its targets leave its text"),
    "a target beyond the text": ("targets", at(1, lambda v: [[0, 10**6]]), "its targets leave its text"),
    "targets that overlap": ("targets", at(1, lambda v: [[0, 2], [1, 3]]), "its targets overlap or are out of order"),
    "a turn beyond the text": (
        "turns",
        at(1, lambda v: [TURN | {"end": 10**6}]),
        "its turns leave its text",
    ),
    "a turn that is null": ("turns", at(1, lambda v: [TURN | {"role": None}]), "turns lacks a value"),
    "a token that is none": ("token_ids", at(1, lambda v: [10**6, *v[1:]]), "a token of it is none of"),
    "a negative token": ("token_ids", at(1, lambda v: [-1, *v[1:]]), "a token of it is none of"),
    "a word beyond the text": ("words", at(1, lambda v: [*v[:-1], [0, 10**6]]), "its words leave its text"),
    "an empty word": ("words", at(1, lambda v: [[0, 0], *v[1:]]), "its words leave its text"),
    "words out of order": ("words", at(1, lambda v: v[::-1]), "its words are out of order"),
    "a phrase before the text": ("noun_phrases", at(1, lambda v: [[-5, 2], *v]), "its noun phrases leave its text"),
    "a verb phrase beyond": ("verb_phrases", at(1, lambda v: [*v, [0, 10**6]]), "its verb phrases leave its text"),
    "rows that overlap": ("row_start", at(1, lambda v: v - 1), "its rows do not follow those of the sample before it"),
    "rows that are fewer": ("row_count", at(0, lambda v: v - 1), "rows"),
    "a shorter text": ("text", at(1, lambda v: v[:-2]), "leave its text"),
    "a text that is null": ("text", at(1, lambda v: None), "column text lacks a value"),
    "a list that is null": ("words", at(1, lambda v: None), "column words lacks a value"),
    "a sample that is cut": ("truncated", at(1, lambda v: True), "says truncated 0, and it is 1"),
}


@pytest.mark.parametrize("name", FORGERIES)
def test_samples_that_cannot_be_are_named(made: Path, tmp_path: Path, name: str) -> None:
    column, change, said = FORGERIES[name]
    cache = Path(shutil.copytree(made, tmp_path / "cache"))
    forge(cache, column, change, rf"00000.*{said}" if "lacks a value" in said else None)
    with pytest.raises(CacheError, match=rf"1 of \d shards are damaged(.|\n)*00000.*{said}"):
        verify_cache(cache)
    with pytest.raises(CacheError, match=rf"00000.*{said}.*; run `stillroom repair "):
        Cache(cache).sample(0)


def test_the_sample_is_named(made: Path, tmp_path: Path) -> None:
    cache = Path(shutil.copytree(made, tmp_path / "cache"))
    forge(cache, "targets", at(1, lambda v: [[-1, 2]]))
    with pytest.raises(CacheError, match=r"samples\.arrow: sample 's1': its targets leave its text"):
        Cache(cache).sample(0)


def test_a_forgery_that_changes_nothing_is_good(made: Path, tmp_path: Path) -> None:
    cache = Path(shutil.copytree(made, tmp_path / "cache"))
    forge(cache, "text", lambda rows: rows)
    verify_cache(cache)
    assert Cache(cache).sample(1).text == Cache(made).sample(1).text


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda mass: np.where(np.arange(len(mass)) == 2, -mass, mass), "row 2 is a negative mass"),
        (lambda mass: mass * np.float32(1.01), "sum to 1.01, not to 1"),
    ],
)
def test_masses_that_cannot_be_are_named(
    made: Path, tmp_path: Path, change: Callable[[np.ndarray], np.ndarray], said: str
) -> None:
    cache = Path(shutil.copytree(made, tmp_path / "cache"))
    name = "states.zarr/mass/1/c/0"
    path = cache / "shards/00000" / name
    change(np.fromfile(path, "<f4")).astype("<f4").tofile(path)
    as_recorded(cache / "shards/00000", name)
    with pytest.raises(CacheError, match=said):
        verify_cache(cache)


@pytest.mark.parametrize(
    ("key", "value"),
    [("shape", [3, 8]), ("data_type", "float16"), ("codecs", [{"name": "gzip"}]), ("attributes", {"dtype": "float16"})],
)
def test_metadata_that_would_mislead_other_readers_is_named(made: Path, tmp_path: Path, key: str, value: Any) -> None:
    cache = Path(shutil.copytree(made, tmp_path / "cache"))
    name = "states.zarr/hidden/1/zarr.json"
    path = cache / "shards/00000" / name
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    as_recorded(cache / "shards/00000", name)
    with pytest.raises(CacheError, match=rf"hidden/1/zarr\.json says {key} .*, and it is "):
        verify_cache(cache)


def test_two_samples_of_one_id_are_named(made: Path, tmp_path: Path) -> None:
    cache = Path(shutil.copytree(made, tmp_path / "cache"))
    forge(cache, "sample_id", at(1, lambda v: "s0"))
    with pytest.raises(CacheError, match="6 samples have 5 ids"):
        verify_cache(cache)
