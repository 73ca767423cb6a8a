"""Which nested types can be read, and what stays of objects that a table has filled with nulls."""

from typing import Any

import pyarrow as pa
import pytest

from schemas.errors import CorpusError
from schemas.texts.nested import describe_unreadable, is_list, is_nested, stored, value_reader

TEXT = pa.string()
FOLDED = pa.dictionary(pa.int32(), TEXT)
TURN = pa.struct([pa.field("role", FOLDED), pa.field("content", pa.large_string()), pa.field("n", pa.list_(pa.int8()))])
LISTS = [pa.list_(TURN), pa.large_list(TURN), pa.list_(TURN, 2), pa.list_view(TURN), pa.large_list_view(TURN)]


@pytest.mark.parametrize("kind", [TEXT, FOLDED, pa.run_end_encoded(pa.int32(), TEXT), pa.string_view(), pa.float64()])
def test_texts_and_numbers(kind: pa.DataType) -> None:
    assert not is_nested(kind) and not is_list(kind)
    assert describe_unreadable(kind) is None


@pytest.mark.parametrize("kind", LISTS, ids=str)
def test_lists_of_every_kind(kind: pa.DataType) -> None:
    assert is_nested(kind) and is_list(kind) and stored(kind) == kind
    assert describe_unreadable(kind) is None
    folded = pa.dictionary(pa.int8(), kind)
    assert is_nested(folded) and stored(folded) == kind and describe_unreadable(folded) is None


def test_what_is_neither_list_nor_object_is_named_at_any_depth() -> None:
    twice = pa.struct([pa.field("a", TEXT), pa.field("b", TEXT), pa.field("a", TEXT)])
    union = pa.sparse_union([pa.field("a", TEXT), pa.field("b", pa.int8())])
    for kind, said in (
        (pa.map_(TEXT, pa.int8()), "'map<string, int8>'"),
        (union, "'sparse_union<a: string=0, b: int8=1>'"),
        (twice, "objects with two keys 'a'"),
    ):
        for outer in (kind, pa.list_(kind), pa.struct([pa.field("x", TEXT), pa.field("y", pa.large_list(kind))])):
            assert describe_unreadable(outer) == said


def read(value: Any, kind: pa.DataType) -> Any:
    reader = value_reader(kind)
    assert reader is not None
    return reader(pa.array([value], kind)[0].as_py(), "a:1")


def test_nulls_of_objects_go_and_those_of_lists_stay() -> None:
    inner = pa.struct([pa.field("c", TEXT), pa.field("d", pa.int8())])
    kind = pa.struct([pa.field("a", TEXT), pa.field("b", pa.list_(inner)), pa.field("e", inner), pa.field("f", TEXT)])
    value: Any = {"a": None, "b": [None, {"c": None, "d": 0}], "e": {}, "f": ""}
    assert read(value, kind) == {"b": [None, {"d": 0}], "e": {}, "f": ""}
    assert read(None, kind) is None and read(None, pa.list_(kind)) is None
    assert read({"a": {"b": None}}, pa.struct([pa.field("a", pa.struct([pa.field("b", TEXT)]))])) == {"a": {}}


def test_what_has_no_objects_is_read_as_it_is() -> None:
    assert [value_reader(kind) for kind in (TEXT, FOLDED, pa.list_(pa.list_(TEXT)), pa.float64())] == [None] * 4


def test_json_is_what_it_spells_its_own_nulls_included() -> None:
    kind = pa.list_(pa.struct([pa.field("arguments", pa.json_())]))
    texts = pa.array(['{"a": null, "b": [1, {"c": null}]}', None, "f(1)"])
    calls = pa.StructArray.from_arrays([pa.ExtensionArray.from_storage(pa.json_(), texts)], ["arguments"])
    reader = value_reader(kind)
    assert reader is not None
    assert reader(calls[:2].to_pylist(), "a:1") == [{"arguments": {"a": None, "b": [1, {"c": None}]}}, {}]
    with pytest.raises(CorpusError, match=r"^a:1: not JSON: Expecting value"):
        reader(calls[2:].to_pylist(), "a:1")
    assert not is_nested(pa.json_()) and describe_unreadable(kind) is None
