"""cache.json: read back as it was written, refused if altered, and readable by readers of before."""

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from schemas.cache.arrays import ArrayRecord
from schemas.cache.kinds import top_k
from schemas.cache.kinds.next_token import SparseRecord
from schemas.cache.kinds.pooled import PooledRecord
from schemas.cache.manifest import CacheManifest, CorpusRecord, read_manifest
from schemas.cache.teacher import EmbeddingRecord, TeacherRecord
from schemas.errors import CacheError
from schemas.storage.fingerprint import fingerprint

IDENTITY = {"teacher": {"weights": "ab", "layers": [1, 2]}, "dtype": "bfloat16"}


def manifest() -> CacheManifest:
    return CacheManifest(
        fingerprint=fingerprint(IDENTITY),
        identity=IDENTITY,
        teacher=TeacherRecord(model="m", kind="causal", num_layers=2, hidden_size=4, vocab_size=8, max_tokens=16),
        annotator="none 1",
        arrays=[ArrayRecord(kind="hidden", layer=2, width=4, dtype="bfloat16")],
        corpus=CorpusRecord(samples=1, empty=0, sha256="00"),
        units=1,
        provenance={},
    )


def test_manifest_round_trip_and_alterations(tmp_path: Path) -> None:
    good = manifest().model_dump(mode="json")
    (tmp_path / "cache.json").write_text(json.dumps(good))
    assert read_manifest(tmp_path) == manifest()
    changes: list[tuple[dict[str, Any], str]] = [
        ({"version": 4}, r"version 4; this stillroom reads 'stillroom-cache' version 1 or 2 or 3$"),
        ({"version": 3}, "version 3 is that of caches to which arrays were added, and of no other"),
        ({"format": "parquet"}, "'parquet'"),
        ({"identity": {"dtype": "float32"}}, "does not hash to its fingerprint"),
        ({"units": 0}, "units"),
        ({"surplus": 1}, "surplus"),
    ]
    for change, said in changes:
        (tmp_path / "cache.json").write_text(json.dumps(good | change))
        with pytest.raises(CacheError, match=said):
            read_manifest(tmp_path)
    (tmp_path / "cache.json").write_text("{")
    with pytest.raises(CacheError, match="not JSON"):
        read_manifest(tmp_path)
    with pytest.raises(CacheError, match="is not a stillroom cache"):
        read_manifest(tmp_path / "elsewhere")


def test_what_came_later_is_not_written_where_it_says_nothing() -> None:
    """So that a reader from before, which refuses what it does not know, opens a cache that it can read."""
    plain = json.loads(manifest().to_json())
    assert not {"pooled", "sparse"} & plain.keys() and "embedding" not in plain["teacher"]
    embedding = EmbeddingRecord(dtype="float32", rows=8, width=4)
    changes = {
        "pooled": PooledRecord(pooling="last", normalise=False, layer=2),
        "sparse": {"top_k": SparseRecord(temperature=2.0, entries=5)},
        "teacher": manifest().teacher.model_copy(update={"embedding": embedding}),
    }
    arrays = top_k.KIND.packed_arrays(SparseRecord(temperature=2.0, entries=5), manifest().teacher)
    full = manifest().model_copy(update={**changes, "arrays": [*manifest().arrays, *arrays]})
    assert CacheManifest.model_validate_json(full.to_json()) == full
    assert CacheManifest.model_validate_json(manifest().to_json()) == manifest()
    left_out = manifest().corpus.model_copy(update={"refused": 2, "repeated": 3})
    assert not {"refused", "repeated"} & plain["corpus"].keys()
    assert (
        CacheManifest.model_validate_json(manifest().model_copy(update={"corpus": left_out}).to_json()).corpus
        == left_out
    )
    without_one = full.to_json().replace('"width": 5', '"width": 4')
    with pytest.raises(
        ValidationError, match=r"the arrays of top_k \(.*, top_k/codes of 4 uint8, .*\) are not those of 5 entries"
    ):
        CacheManifest.model_validate_json(without_one)
