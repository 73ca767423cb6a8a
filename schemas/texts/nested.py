"""Columns of lists and objects: what of them can be read, and what records hold of their values."""

from collections.abc import Callable
from typing import Any

import pyarrow as pa

from schemas.shown import quoted
from schemas.texts.json_text import parse_json
from schemas.texts.repeated import repeated

Reader = Callable[[Any, str], Any]
JSON = "arrow.json"  # a type of texts, in which `datasets` keeps objects that have not the same keys in every row
LISTS = (
    pa.types.is_list,
    pa.types.is_large_list,
    pa.types.is_fixed_size_list,
    pa.types.is_list_view,
    pa.types.is_large_list_view,
)


def stored(kind: pa.DataType) -> pa.DataType:
    """The type of the values of a column, whatever folds or names them."""
    while isinstance(kind, (pa.DictionaryType, pa.RunEndEncodedType, pa.BaseExtensionType)):
        kind = kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind.value_type
    return kind


def is_nested(kind: pa.DataType) -> bool:
    """Returns whether each row of a column holds a list or an object, rather than one text or number."""
    return bool(pa.types.is_nested(stored(kind)))


def is_list(kind: pa.DataType) -> bool:
    """Returns whether each row holds a list."""
    return any(test(kind) for test in LISTS)


def describe_unreadable(kind: pa.DataType) -> str | None:
    """What of a type, at any depth, is neither a list, an object, a text nor a number; None if it can be read."""
    kind = stored(kind)
    if is_list(kind):
        return describe_unreadable(kind.value_type)
    if pa.types.is_struct(kind):
        names = [kind.field(number).name for number in range(kind.num_fields)]
        twice = repeated(names)
        if twice is not None:
            return f"objects with two keys {quoted(twice)}"
        found = (describe_unreadable(kind.field(number).type) for number in range(kind.num_fields))
        return next((said for said in found if said is not None), None)
    return quoted(str(kind)) if pa.types.is_nested(kind) else None


def value_reader(kind: pa.DataType) -> Reader | None:
    """What makes the value that a record holds of a column's value and its place; None where it is that itself.

    Objects lose the keys whose value is null: a table fills with null what an object does not have. A text of the type
    `arrow.json` is the value that it spells; for one that spells none, the reader raises CorpusError with the place.
    """
    if isinstance(kind, pa.BaseExtensionType) and kind.extension_name == JSON:
        return lambda value, place: None if value is None else parse_json(value, place)
    kind = stored(kind)
    if is_list(kind):
        return _list_reader(value_reader(kind.value_type))
    if pa.types.is_struct(kind):
        fields = [kind.field(number) for number in range(kind.num_fields)]
        return _object_reader({field.name: value_reader(field.type) for field in fields})
    return None


def _list_reader(read: Reader | None) -> Reader | None:
    if read is None:
        return None
    return lambda value, place: None if value is None else [read(item, place) for item in value]


def _object_reader(readers: dict[str, Reader | None]) -> Reader:
    def read(value: Any, place: str) -> Any:
        if value is None:
            return None
        held = {key: part for key, part in value.items() if part is not None}
        return {key: part if (of := readers[key]) is None else of(part, place) for key, part in held.items()}

    return read
