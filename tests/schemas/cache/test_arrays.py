"""The kinds of states as a whole: the format's order, and what no kind may be called."""

import pytest
from pydantic import ValidationError

from pipeline.teacher.maker import MAKERS
from schemas.cache.arrays import KINDS, RESERVED, ArrayRecord, _require_usable, by_kind, keeps_tokens
from schemas.cache.codec import CODECS
from schemas.cache.kinds.next_token import SparseRecord
from schemas.cache.kinds.pooled import PooledRecord
from schemas.cache.manifest import CacheManifest
from schemas.cache.records import nest_records
from schemas.configs.states import StatesConfig
from schemas.errors import ConfigError


def record(kind: str, width: int | None = 4, layer: int = 2) -> ArrayRecord:
    return ArrayRecord(kind=kind, layer=layer, width=width, dtype="float32")


def test_the_format_has_these_kinds_in_this_order() -> None:
    """The order of arrays in cache.json and in a shard: to change it is to change the format."""
    found = {name: (kind.array_kinds, kind.rows, kind.group) for name, kind in KINDS.items()}
    assert list(found.items()) == [
        ("hidden", (("hidden",), "tokens", None)),
        ("mass", (("mass",), "tokens", None)),
        ("pooled", (("pooled",), "samples", None)),
        ("top_k", (("top_k/ids", "top_k/codes", "top_k/scales", "top_k/logprobs"), "tokens", "sparse")),
        ("sampled", (("sampled/draws", "sampled/ids", "sampled/weights"), "tokens", "sparse")),
        ("received", (("received",), "tokens", None)),
        ("attention_mean", (("attention_mean",), "pairs", None)),
        ("attention", (("attention",), "pairs", None)),
    ]
    assert {kind.name: kind.former for kind in KINDS.values() if kind.former} == {  # of format 1
        "top_k": ("ids", "logprobs"),
        "sampled": ("ids", "weights"),
    }
    assert list(CODECS) == ["draws", "fp8", "int8", "raw", "rvq", "zstd"]


def test_an_object_that_is_no_kind_is_named() -> None:
    with pytest.raises(ValueError, match=r"^it is a str, not an object of schemas\.cache\.arrays\.StateKind$"):
        _require_usable("hidden")  # type: ignore[arg-type]


class Sketch(type(KINDS["hidden"])):  # type: ignore[misc]
    """Hidden states under another name."""


@pytest.mark.parametrize("name", ["sparse", "batching", "keep_embeddings", "canonical", "model_dump"])
def test_names_that_mean_something_else_are_refused(name: str) -> None:
    kind = Sketch()
    kind.name = "sketch"
    _require_usable(kind)
    kind.name = name
    with pytest.raises(ValueError) as refused:
        _require_usable(kind)
    assert str(refused.value) == f"the name {name!r} means something else in a config or in cache.json"


def test_every_kind_has_its_other_halves() -> None:
    assert set(MAKERS) == set(KINDS)
    assert set(StatesConfig.model_fields) == {"dtype", "encoding", "rows", *KINDS}


def test_reserved_names_are_those_of_cache_json_and_of_states() -> None:
    of_kinds = {name for name, kind in KINDS.items() if kind.record is not None and kind.group is None}
    assert of_kinds == {"hidden", "pooled"}
    assert (set(CacheManifest.model_fields) | set(StatesConfig.model_fields)) - {*of_kinds, *KINDS} <= RESERVED
    assert not RESERVED & set(KINDS)


def test_paths_and_rows_follow_from_the_kind() -> None:
    arrays = [record("hidden", layer=0), record("pooled"), record("top_k/ids"), record("hidden")]
    assert [array.path for array in arrays] == ["hidden/0", "pooled/2", "top_k/ids", "hidden/2"]
    assert [array.rows for array in arrays] == ["tokens", "samples", "tokens", "tokens"]
    assert by_kind(arrays) == {"hidden": [arrays[0], arrays[3]], "pooled": [arrays[1]], "top_k": [arrays[2]]}
    assert keeps_tokens(arrays) and not keeps_tokens(arrays[1:2])
    assert record("mass", None).shape(3) == (3,) and record("hidden").shape(3) == (3, 4)


@pytest.mark.parametrize("kind", ["hidden/ids", "top_k", "top_k/weights", "sampled/logprobs"])
def test_arrays_that_no_kind_has_are_refused(kind: str) -> None:
    with pytest.raises(ValidationError, match="has no arrays"):
        record(kind)


def test_kinds_that_nobody_knows_are_refused() -> None:
    with pytest.raises(ConfigError, match="unknown state kind 'hiddem'; available: hidden, mass, pooled"):
        record("hiddem")


def test_records_lie_where_format_1_has_them() -> None:
    pooled, sparse = PooledRecord(pooling="last", normalise=True, layer=2), SparseRecord(temperature=2.0, entries=3)
    assert nest_records({"pooled": pooled, "top_k": sparse, "sampled": sparse}) == {
        "pooled": {"pooling": "last", "normalise": True, "layer": 2},
        "sparse": {
            name: {"temperature": 2.0, "entries": 3, "proposal": None, "seed": None} for name in ("top_k", "sampled")
        },
    }
