"""A part of a config whose class is found in a registry, by the name that one of its fields gives."""

import difflib
from collections.abc import Mapping
from functools import reduce
from operator import or_
from typing import Annotated, Any

from pydantic import Field, GetCoreSchemaHandler, GetJsonSchemaHandler, TypeAdapter
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from schemas.registry import Registry
from schemas.shown import quoted
from schemas.strict import Strict


class ChosenByName:
    """Annotates the base of the registry's classes; the registry is read when a value or a JSON schema is asked for."""

    def __init__(self, field: str, registry: Registry[Any]):
        """`field` names the class; each class has it as a Literal of its own name."""
        self.field, self.registry = field, registry

    @property
    def choices(self) -> tuple[type[Strict], ...]:
        """The classes that may be chosen, by their own names."""
        return tuple(sorted(self.registry.values(), key=lambda choice: choice.__name__))

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(self._validate)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        union: Any = reduce(or_, self.choices)
        chosen: Any = Annotated[union, Field(discriminator=self.field)] if len(self.choices) > 1 else union
        return handler(TypeAdapter(chosen).core_schema)

    def _validate(self, value: Any) -> Any:
        if isinstance(value, self.choices):
            return value
        if not isinstance(value, Mapping) or self.field not in value:
            said = self._said() | {"field": self.field}
            raise PydanticCustomError("no_choice", "a {what} is a mapping with `{field}`, one of {names}", said)
        name = value[self.field]
        if not isinstance(name, str) or name not in self.registry:
            near = difflib.get_close_matches(str(name), list(self.registry), n=1)
            said = self._said() | {"name": quoted(name), "near": f"; did you mean `{near[0]}`?" if near else ";"}
            raise PydanticCustomError("unknown_choice", "unknown {what} {name}{near} available: {names}", said)
        return self.registry[name].model_validate(value)

    def _said(self) -> dict[str, Any]:
        return {"what": self.registry.what, "names": ", ".join(self.registry)}
