"""Exact types in pydantic's schemas: nothing passes for an integer or a boolean that is not one.

By itself pydantic takes true for 1, 1.0 for 1 and "1" for 1; as a whole strict, it takes no list for a tuple, no string
for a path, and no "1e-3" for a number, which is what YAML makes of 1e-3.
"""

from typing import Any, cast

from pydantic_core import CoreSchema, core_schema

_NO_SCHEMAS = ("metadata", "default", "expected", "serialization")  # of a schema: values and functions


def exact(schema: CoreSchema) -> CoreSchema:
    """`schema` with integers and booleans that nothing else passes for, and numbers that no boolean passes for."""
    return cast(CoreSchema, _exact(schema))


def _exact(part: Any) -> Any:
    if isinstance(part, (list, tuple)):
        return type(part)(map(_exact, part))
    if not isinstance(part, dict):
        return part
    found = {key: value if key in _NO_SCHEMAS else _exact(value) for key, value in part.items()}
    if found.get("type") in ("int", "bool"):
        return found | {"strict": True}
    if found.get("type") == "float":
        return core_schema.no_info_before_validator_function(_not_a_boolean, cast(CoreSchema, found))
    return found


def _not_a_boolean(value: Any) -> Any:
    if isinstance(value, bool):
        raise ValueError("Input should be a valid number")
    return value
