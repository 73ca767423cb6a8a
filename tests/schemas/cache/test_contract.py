"""The files of a cache: identity, versions, and numbers that any Zarr reader opens."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from schemas.cache.arrays import ArrayRecord, keeps_tokens
from schemas.cache.kinds.next_token import SparseRecord
from schemas.cache.kinds.pooled import PooledRecord
from schemas.cache.manifest import CacheManifest, CorpusRecord, read_manifest
from schemas.cache.shard import ShardRecord, read_shard
from schemas.cache.states import map_array, write_states
from schemas.cache.teacher import EmbeddingRecord, TeacherRecord
from schemas.errors import CacheError, RunError
from schemas.storage.file_record import FileRecord, check_file, check_size, describe_file, list_files
from schemas.storage.fingerprint import differences, fingerprint, hash_file
from tests.stored import opened, stored

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


def test_fingerprint_is_the_sha256_of_canonical_json() -> None:
    text = '{"dtype":"bfloat16","teacher":{"layers":[1,2],"weights":"ab"}}'
    assert fingerprint(IDENTITY) == hashlib.sha256(text.encode()).hexdigest()
    assert fingerprint(dict(reversed(IDENTITY.items()))) == fingerprint(IDENTITY)


def test_differences_name_the_fields() -> None:
    other = {"teacher": {"weights": "cd", "layers": [1, 2]}, "dtype": "bfloat16", "new": 1}
    assert list(differences(IDENTITY, other)) == [
        "new: found null, wanted 1",
        'teacher.weights: found "ab", wanted "cd"',
    ]


def test_manifest_round_trip_and_alterations(tmp_path: Path) -> None:
    good = manifest().model_dump(mode="json")
    (tmp_path / "cache.json").write_text(json.dumps(good))
    assert read_manifest(tmp_path) == manifest()
    changes: list[tuple[dict[str, Any], str]] = [
        ({"version": 2}, "version 2"),
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
    widths = {"top_k/ids": 5, "top_k/logprobs": 6}
    arrays = [ArrayRecord(kind=kind, layer=2, width=width, dtype="float32") for kind, width in widths.items()]
    full = manifest().model_copy(update={**changes, "arrays": [*manifest().arrays, *arrays]})
    assert CacheManifest.model_validate_json(full.to_json()) == full
    assert CacheManifest.model_validate_json(manifest().to_json()) == manifest()
    without_tail = full.to_json().replace('"width": 6', '"width": 5')
    with pytest.raises(
        ValidationError, match=r"top_k/logprobs should be one array of 6 columns, not \[5\]; extract again"
    ):
        CacheManifest.model_validate_json(without_tail)


def test_states_are_plain_zarr_and_plain_bytes(tmp_path: Path) -> None:
    truth = torch.randn(7, 4)
    records = [
        ArrayRecord(kind="hidden", layer=2, width=4, dtype="bfloat16"),
        ArrayRecord(kind="mass", layer=2, width=None, dtype="float32"),
    ]
    half = truth.bfloat16()
    arrays = {"hidden/2": half.view(torch.uint16).numpy(), "mass/2": np.zeros(7, np.float32)}
    write_states(tmp_path / "s.zarr", arrays, records)

    assert opened(tmp_path / "s.zarr", "hidden/2").attrs["dtype"] == "bfloat16"
    bits = stored(tmp_path / "s.zarr", "hidden/2")
    assert torch.equal(torch.from_numpy(bits).view(torch.bfloat16), half)
    # float32 is bfloat16 with sixteen more bits: what the README tells a NumPy user to do.
    widened = (bits.astype(np.uint32) << 16).view(np.float32)
    np.testing.assert_array_equal(widened, half.float().numpy())

    mapped = map_array(tmp_path / "s.zarr", records[0], 7)
    assert mapped.tobytes() == arrays["hidden/2"].tobytes()
    assert map_array(tmp_path / "s.zarr", records[1], 7).sum() == 0  # a chunk of zeros has its file too
    with pytest.raises(CacheError, match="56 bytes instead of 64"):
        map_array(tmp_path / "s.zarr", records[0], 8)


def test_compressed_rows_of_samples_and_whole_numbers(tmp_path: Path) -> None:
    records = [
        ArrayRecord(kind="pooled", layer=2, width=64, dtype="float16", encoding="zstd"),
        ArrayRecord(kind="top_k/ids", layer=2, width=3, dtype="int32"),
    ]
    assert [record.path for record in records] == ["pooled/2", "top_k/ids"]
    assert [record.rows for record in records] == ["samples", "tokens"]
    assert keeps_tokens(records) and not keeps_tokens(records[:1])
    arrays: dict[str, np.ndarray] = {
        "pooled/2": np.linspace(-1, 1, 320, dtype=np.float16).reshape(5, 64),
        "top_k/ids": np.arange(21, dtype=np.int32).reshape(7, 3),
    }
    write_states(tmp_path / "s.zarr", arrays, records)
    for record, rows in zip(records, (5, 7), strict=True):
        np.testing.assert_array_equal(stored(tmp_path / "s.zarr", record.path), arrays[record.path])
        mapped = map_array(tmp_path / "s.zarr", record, rows)
        np.testing.assert_array_equal(mapped, arrays[record.path])
        mapped[:] = 0  # of the reader's own, as every array is
        np.testing.assert_array_equal(map_array(tmp_path / "s.zarr", record, rows), arrays[record.path])
    for rows in (4, 6):
        with pytest.raises(CacheError, match=r"cannot read .*pooled/2/c/0/0"):
            map_array(tmp_path / "s.zarr", records[0], rows)


def test_a_unit_without_tokens_is_a_valid_group(tmp_path: Path) -> None:
    record = ArrayRecord(kind="hidden", layer=0, width=4, dtype="float32")
    write_states(tmp_path / "s.zarr", {"hidden/0": np.empty((0, 4), np.float32)}, [record])
    assert stored(tmp_path / "s.zarr", "hidden/0").shape == (0, 4)


def test_wrong_numbers_are_never_written(tmp_path: Path) -> None:
    record = ArrayRecord(kind="hidden", layer=0, width=4, dtype="float32")
    with pytest.raises(ValueError, match="hidden/0"):
        write_states(tmp_path / "s.zarr", {"hidden/0": np.zeros((2, 3), np.float32)}, [record])


def test_a_shard_knows_its_files(tmp_path: Path) -> None:
    shard = tmp_path / "00000"
    (shard / "states.zarr").mkdir(parents=True)
    (shard / "samples.arrow").write_bytes(b"abc")
    (shard / "states.zarr" / "zarr.json").write_bytes(b"{}")
    files = list_files(shard)
    assert files["samples.arrow"] == FileRecord(bytes=3, sha256=hashlib.sha256(b"abc").hexdigest())
    assert list(files) == ["samples.arrow", "states.zarr/zarr.json"]
    record = ShardRecord(fingerprint="f", unit=0, samples=1, tokens=2, truncated=0, overlong=0, files=files)
    (shard / "shard.json").write_text(record.model_dump_json())
    assert read_shard(shard, "f") == read_shard(shard, "f", hash_file(shard / "shard.json")) == record
    assert list_files(shard, {"shard.json"}) == files
    with pytest.raises(CacheError, match="another cache"):
        read_shard(shard, "g")
    with pytest.raises(CacheError, match=r"shard\.json does not have its checksum; remove .*00000 and extract again"):
        read_shard(shard, "f", "0" * 64)


def test_a_file_is_compared_with_what_is_recorded_of_it(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"abc")
    file = describe_file(path)
    check_file(path, file, "way out")
    path.write_bytes(b"abd")
    check_size(path, file, "way out")
    with pytest.raises(RunError, match=r"a does not have its checksum; way out$"):
        check_file(path, file, "way out", RunError)
    path.write_bytes(b"ab")
    for check in (check_size, check_file):
        with pytest.raises(CacheError, match=r"a has 2 bytes instead of 3; way out$"):
            check(path, file, "way out")
    path.unlink()
    with pytest.raises(CacheError, match=r"a is missing; way out$"):
        check_file(path, file, "way out")
