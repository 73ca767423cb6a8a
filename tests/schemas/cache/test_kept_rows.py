"""A cache in which some tokens have no rows: what is read of each sample, and that its record says so."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from schemas.cache.index import write_index
from schemas.cache.manifest import CacheManifest
from schemas.cache.reader import Cache
from schemas.cache.shard import check_shard
from schemas.cache.writer import write_manifest, write_shard
from schemas.errors import CacheError
from schemas.storage.fingerprint import fingerprint
from tests.shards import ARRAYS, manifest, samples, states

ROWS: tuple[list[list[int]], ...] = ([[0, 1], [2, 3]], [], [[1, 4]])  # of texts of 3, 2 and 5 tokens
POSITIONS: tuple[list[int], ...] = ([0, 2], [], [1, 2, 3])


def kept_manifest(rows: str) -> CacheManifest:
    known = manifest(1)
    identity = {
        "format": "stillroom-cache 2",
        "annotator": "none",
        "corpus": {"sha256": "0", "samples": 2},
        "states": {a.path: {"width": a.width, "dtype": a.dtype, "encoding": a.encoding} for a in ARRAYS},
        "teacher": {"kind": "causal", "max_tokens": 8},
    } | ({} if rows == "all" else {"rows": rows})
    changes = {"rows": rows, "identity": identity, "fingerprint": fingerprint(identity)}
    return CacheManifest.model_validate(known.model_dump() | changes)


def made(cache: Path, rows: str = "targets") -> dict[str, np.ndarray]:
    """Writes one shard in which half of the tokens have rows, and returns its numbers."""
    known = kept_manifest(rows)
    texts = [
        replace(sample, token_rows=np.array(kept, np.int32).reshape(-1, 2))
        for sample, kept in zip(samples("s", [3, 2, 5]), ROWS, strict=True)
    ]
    arrays = {"hidden/2": states(5)["hidden/2"], "mass/2": states(10)["mass/2"]}
    write_manifest(cache, known)
    write_shard(cache, 0, texts, arrays, ARRAYS, known.fingerprint, 0)
    return arrays


def test_a_sample_has_the_rows_of_its_own_tokens(tmp_path: Path) -> None:
    arrays = made(tmp_path)
    write_index(tmp_path, kept_manifest("targets"))
    cache = Cache(tmp_path)
    record = json.loads((tmp_path / "shards/00000/shard.json").read_text())
    assert (record["tokens"], record["kept"]) == (10, 5)
    first = 0
    for position, (kept, start, count) in enumerate(zip(POSITIONS, (0, 3, 5), (3, 2, 5), strict=True)):
        sample = cache.sample(position)
        assert sample.token_rows.tolist() == ROWS[position] and sample.token_rows.dtype == np.int32
        hidden, mass = cache.states(position, ARRAYS)
        np.testing.assert_array_equal(hidden, arrays["hidden/2"][first : first + len(kept)])
        np.testing.assert_array_equal(mass, arrays["mass/2"][start : start + count])
        first += len(kept)


def test_a_cache_of_every_row_has_them(tmp_path: Path) -> None:
    made(tmp_path, "all")
    said = r"shard\.json says that 5 of 10 tokens have rows; run `stillroom repair "
    with pytest.raises(CacheError, match=said):
        check_shard(tmp_path / "shards/00000", kept_manifest("all"))


def test_the_manifest_says_it_only_where_rows_are_left_out(tmp_path: Path) -> None:
    for rows in ("all", "targets"):
        known = kept_manifest(rows)
        known.check_copies(tmp_path)
        assert ("rows" in json.loads(known.to_json())) == (rows == "targets")
    other = kept_manifest("targets").model_copy(update={"rows": "all"})
    with pytest.raises(CacheError, match=r'contradicts its own identity \(rows: found null, wanted "targets"\)'):
        other.check_copies(tmp_path)
