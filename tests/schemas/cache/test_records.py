"""Where cache.json holds how states were made: the kinds' order is that of its fields."""

from types import SimpleNamespace
from typing import get_args

import pytest
from pydantic import ValidationError

from schemas.cache.arrays import ArrayRecord
from schemas.cache.kinds import sampled, top_k
from schemas.cache.kinds.next_token import SparseRecord
from schemas.cache.kinds.pooled import PooledRecord
from schemas.cache.manifest import CacheManifest
from schemas.cache.records import read_records, record_fields
from tests.shards import manifest

SPARSE = SparseRecord(temperature=2.0, entries=3)
POOLED = PooledRecord(pooling="last", normalise=True, layer=2)


def test_fields_are_those_of_the_format() -> None:
    """Of format 1, all but `hidden`."""
    fields = record_fields()
    assert list(fields) == ["hidden", "pooled", "sparse"]
    assert fields["pooled"] == (PooledRecord | None, None)
    assert fields["sparse"][1] == {} and list(CacheManifest.model_fields)[7:10] == ["hidden", "pooled", "sparse"]


def test_every_group_is_a_field_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    kinds = {
        name: SimpleNamespace(record=SparseRecord, group=group) for name, group in (("a", "x"), ("b", "y"), ("c", "x"))
    }
    monkeypatch.setattr("schemas.cache.records.KINDS", kinds | {"d": SimpleNamespace(record=None, group=None)})
    fields = record_fields()
    assert [get_args(get_args(fields[group][0])[0]) for group in ("x", "y")] == [("a", "c"), ("b",)]
    assert list(fields) == ["x", "y"]


def full() -> dict[str, object]:
    arrays = [*top_k.KIND.plain_arrays(SPARSE, 2), *sampled.KIND.plain_arrays(SPARSE, 2)]
    arrays.append(ArrayRecord(kind="pooled", layer=2, width=16, dtype="float32"))
    return manifest(1).model_dump() | {
        "arrays": [array.model_dump() for array in arrays],
        "pooled": POOLED.model_dump(),
        "sparse": {"top_k": SPARSE.model_dump(), "sampled": SPARSE.model_dump()},
    }


def test_records_are_read_from_their_fields() -> None:
    assert read_records(manifest(1)) == {}
    assert read_records(CacheManifest.model_validate(full())) == {"pooled": POOLED, "top_k": SPARSE, "sampled": SPARSE}


def test_a_group_names_known_kinds_alone() -> None:
    with pytest.raises(ValidationError, match=r"sparse\.hidden"):
        CacheManifest.model_validate(full() | {"sparse": {"hidden": SPARSE.model_dump()}})
