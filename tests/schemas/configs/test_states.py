"""The section `states` has a field of every kind, and asks for those that it names."""

from typing import Any

import pytest
from pydantic import ValidationError

from schemas.cache.arrays import KINDS
from schemas.cache.kinds.hidden import HiddenSettings
from schemas.configs.states import StatesConfig, asked_kinds
from schemas.layers import Top


def asked(**fields: Any) -> list[tuple[str, Any]]:
    return [(kind.name, settings) for kind, settings in asked_kinds(StatesConfig.model_validate(fields))]


def test_every_kind_has_its_field() -> None:
    assert list(StatesConfig.model_fields) == ["dtype", "encoding", "rows", *KINDS]


def test_without_a_word_the_last_layers_states_and_masses_are_kept() -> None:
    assert asked(encoding="exact") == [("hidden", HiddenSettings(["last"], None)), ("mass", ["last"]), ("received", [])]
    assert StatesConfig().dtype == "bfloat16"


def test_kinds_come_in_the_order_of_their_arrays_whatever_the_configs() -> None:
    found = asked(sampled={"draws": 3}, top_k={"k": 2}, pooled={"pooling": "mean"}, mass=[], hidden={"top": 2})
    assert [name for name, _ in found] == ["hidden", "mass", "pooled", "top_k", "sampled", "received"]
    assert found[0][1].layers == Top(top=2) and found[3][1].k == 2 and found[4][1].draws == 3


def test_an_encoding_that_does_not_go_with_the_dtype_is_refused() -> None:
    with pytest.raises(ValueError, match="dtype float16 is of exact states alone; set encoding to exact"):
        asked(dtype="float16", encoding="small")
    with pytest.raises(ValueError, match="encoding is of hidden states, and none are kept"):
        asked(hidden=[], encoding="tiny")
    assert asked(dtype="float16", hidden=[]) == [
        ("hidden", HiddenSettings([], None)),
        ("mass", ["last"]),
        ("received", []),
    ]


@pytest.mark.parametrize(
    "fields", [{"dtype": "float64"}, {"hiden": [1]}, {"top_k": {"k": 0}}, {"encoding": "smal"}, {"pooled": {}}]
)
def test_what_is_no_state_is_refused(fields: Any) -> None:
    with pytest.raises(ValidationError):
        StatesConfig.model_validate(fields)
