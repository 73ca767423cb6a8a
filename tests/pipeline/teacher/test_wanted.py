"""What a teacher is to give: kinds in their fixed order, layers ascending, and nothing else."""

from typing import Any

import pytest

from pipeline.teacher.wanted import WantedStates
from schemas.cache.encoding import EncodingRecord
from schemas.cache.kinds.next_token import SparseRecord
from schemas.cache.kinds.pooled import PooledRecord
from schemas.cache.manifest import CacheManifest
from schemas.cache.packed_ids import packed_bytes
from schemas.cache.teacher import TeacherRecord
from schemas.configs.states import StatesConfig
from schemas.errors import ConfigError
from tests.shards import ARRAYS, manifest

TEACHER = TeacherRecord(model="m", kind="causal", num_layers=4, hidden_size=8, vocab_size=50, max_tokens=16)


def wanted(**states: Any) -> WantedStates:
    return WantedStates.of_config(StatesConfig.model_validate(states), TEACHER)


def test_arrays_and_records_by_hand() -> None:
    found = wanted(
        top_k={"k": 3, "temperature": 2.0},
        pooled={"pooling": "last"},
        mass=[2],
        hidden=["last", 0, -2],
        encoding="tiny",
    )
    assert {array.encoding for array in found.arrays if array.kind == "hidden"} == {"rvq"} and found.is_calibrated
    assert [(array.path, array.width, array.dtype) for array in found.arrays] == [
        ("hidden/0", 8, "bfloat16"),
        ("hidden/3", 8, "bfloat16"),
        ("hidden/4", 8, "bfloat16"),
        ("mass/2", None, "float32"),
        ("pooled/4", 8, "bfloat16"),
        ("top_k/ids", packed_bytes(3, TEACHER.vocab_size), "uint8"),
        ("top_k/codes", 3, "uint8"),
        ("top_k/scales", 2, "float16"),
    ]
    assert found.records == {
        "hidden": EncodingRecord(codec="rvq", kl=0.1, geometry=0.16, worst_kl=5.0),
        "pooled": PooledRecord(pooling="last", normalise=False, layer=4),
        "top_k": SparseRecord(temperature=2.0, entries=3),
    }
    assert found.teacher is TEACHER


def test_nothing_to_keep_is_refused() -> None:
    wanted_ = (
        r"^states: hidden, mass, pooled, .*, attention_mean and attention are all empty: there is nothing to keep$"
    )
    with pytest.raises(ConfigError, match=wanted_):
        wanted(hidden=[], mass=[])


def test_of_a_cache_it_is_what_the_cache_says() -> None:
    held: CacheManifest = manifest(units=1)
    found = WantedStates.of_cache(held)
    assert (list(found.arrays), found.teacher, found.records) == (ARRAYS, held.teacher, {})
