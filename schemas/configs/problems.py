"""Problems of a config, each in one line: where its value came from, its whole field, and what it should be."""

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from schemas.configs.overrides import Override, Place
from schemas.shown import quoted

ITEM = "N"  # stands for the number of a list's item where a field is suggested
# How alike two names are where one of another section is suggested: there are so many that some resemble any word.
ELSEWHERE = 0.8


@dataclass(frozen=True)
class Origins:
    """Where the values of a config came from."""

    path: Path
    root: yaml.Node | None  # of the file
    data: dict[str, Any]  # all values, with those of the command line
    overrides: Sequence[tuple[Place, Override]]  # in their order: a later one displaces an earlier one

    def describe(self, problem: Any, model: type[BaseModel]) -> str:
        """One of pydantic's problems in one line."""
        place = self._place(problem)
        message = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "extra_forbidden":
            message = "unknown field" + _suggestion(place, model, self.data)
        elif problem["type"] == "missing":
            message = "this field is required"
        elif problem["type"] == "greater_than_equal":
            message = f"Input should be greater than or equal to {problem['ctx']['ge']}"  # 1e-12, not 0.000000000001
        given = problem.get("input")
        if problem["type"] not in ("missing", "extra_forbidden") and isinstance(given, (str, int, float, bool)):
            message += f" (given: {quoted(given)})"
        return f"{self._origin(place)}: {_dotted(place)}: {message}"

    def _place(self, problem: Any) -> Place:
        """Pydantic's place without the names of chosen classes and union members, which are no fields."""
        value: Any = self.data
        place: list[str | int] = []
        for number, part in enumerate(problem["loc"]):
            if (isinstance(value, dict) and part in value) or (isinstance(value, list) and part in range(len(value))):
                value = value[part]
            elif problem["type"] != "missing" or number + 1 < len(problem["loc"]):
                continue
            place.append(part)
        return tuple(place)

    def _origin(self, place: Place) -> str:
        """The override that gave the value, or for which a section was made; or else the line of the file."""
        for held, override in reversed(self.overrides):
            if place[: len(held)] == held:
                return str(override)
        line = None
        node = self.root
        for part in place:
            node, line = _child(node, part) or (None, line)
        made = (override for held, override in self.overrides if node is None and place and held[: len(place)] == place)
        in_file = str(self.path) if line is None else f"{self.path}:{line}"
        return str(next(made, in_file))


def _dotted(place: Place) -> str:
    dotted = ".".join(map(str, place))
    return (dotted if dotted.isprintable() and len(dotted) <= 200 else quoted(dotted)) or "config"


def _child(node: yaml.Node | None, part: Any) -> tuple[yaml.Node, int] | None:
    """The node held under a name or number, and its line."""
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value == str(part):
                return value, key.start_mark.line + 1
    if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
        return node.value[part], node.value[part].start_mark.line + 1
    return None


def _suggestion(place: Place, model: type[BaseModel], data: Any) -> str:
    """The field whose name is nearest: as it stands in the same section, or whole if it is elsewhere."""
    name, section = str(place[-1]), tuple(ITEM if isinstance(part, int) else part for part in place[:-1])
    elsewhere = {field[-1]: field for field in reversed(list(_fields(model, (), set()))) if field[:-1] != section}
    here = [field for owner in _owners(model, place[:-1], data) for field in owner.model_fields if field != name]
    if name in elsewhere:
        return f"; did you mean `{'.'.join(elsewhere[name])}`?"
    very_near = difflib.get_close_matches(name, elsewhere, cutoff=ELSEWHERE)
    near = difflib.get_close_matches(name, [*here, *very_near], n=1)
    if near and near[0] in here:
        return f"; did you mean `{near[0]}`?"
    return f"; did you mean `{'.'.join(elsewhere[near[0]])}`?" if near else ""


def _owners(model: type[BaseModel], section: Place, data: Any) -> list[type[BaseModel]]:
    """The classes that the section may be of; where one is chosen by a name that `data` has, that one."""
    owners, inside = [model], data
    for part in section:
        inside = inside[part]
        if isinstance(part, str):
            fields = [owner.model_fields[part] for owner in owners if part in owner.model_fields]
            owners = [choice for field in fields for choice, _ in _classes(field)]
        else:
            owners = [owner for owner in owners if _is_chosen(owner, inside)]
    return owners


def _classes(field: FieldInfo) -> Iterator[tuple[type[BaseModel], bool]]:
    """The classes that a field's values may be of, each with whether it is that of a list's items."""
    stack: list[tuple[Any, bool]] = [(field.annotation, False)]
    while stack:
        annotation, in_list = stack.pop()
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            yield annotation, in_list
        in_list = in_list or get_origin(annotation) is list
        stack += [(part, in_list) for part in getattr(annotation, "__args__", ())]
        for mark in getattr(annotation, "__metadata__", ()):
            stack += [(choice, in_list) for choice in getattr(mark, "choices", ())]


def _is_chosen(owner: type[BaseModel], data: Any) -> bool:
    """Whether nothing that `data` says is another class's name."""
    literals = {name: field.annotation for name, field in owner.model_fields.items()}
    named = {name: get_args(kind) for name, kind in literals.items() if get_origin(kind) is Literal}
    single = {name: names[0] for name, names in named.items() if len(names) == 1}
    return all(data.get(name, value) == value for name, value in single.items()) if isinstance(data, dict) else True


def _fields(model: type[BaseModel], section: tuple[str, ...], seen: set[type[BaseModel]]) -> Iterator[tuple[str, ...]]:
    """Every field below `model`, as the names that lead to it; a class that stands in two places is named in one."""
    if model in seen:
        return
    seen.add(model)
    yield from ((*section, name) for name in model.model_fields)
    for name, field in model.model_fields.items():
        for choice, in_list in _classes(field):
            yield from _fields(choice, (*section, name, ITEM) if in_list else (*section, name), seen)
