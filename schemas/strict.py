"""The base of every config and record: frozen, exact, unknown keys are errors, JSON with sorted keys."""

import json
from typing import Any

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from schemas.exact import exact

# Of a model that a call makes: no source describes its fields, and to look for it in vain took as long as all others.
WITHOUT_SOURCE = {"use_attribute_docstrings": False}


class Strict(BaseModel):
    """A frozen model that refuses unknown keys and non-finite numbers. The string below a field is its description.

    An integer is written as one: neither true, 1.0 nor "1" is, and true or false is written so, too. A number is not a
    boolean, but may be an integer or, because YAML takes 1e-3 for text, a string.
    """

    model_config = ConfigDict(
        extra="forbid", frozen=True, allow_inf_nan=False, protected_namespaces=(), use_attribute_docstrings=True
    )

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return exact(handler(source))

    @classmethod
    def __get_pydantic_json_schema__(cls, core: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """A description is one paragraph, wherever the source wraps its lines."""
        schema = handler.resolve_ref_schema(handler(core))
        for field in schema.get("properties", {}).values():
            if "description" in field:
                field["description"] = " ".join(field["description"].split())
        return schema

    def canonical(self) -> str:
        """One line of JSON, the same bytes for equal models."""
        return canonical_json(self.model_dump(mode="json"))


def canonical_json(value: Any) -> str:
    """`value` as JSON with sorted keys and no spaces: equal values give equal bytes."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
