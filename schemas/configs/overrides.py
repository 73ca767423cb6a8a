"""Values that a command line or a sweep lays over a config: `--set optimizer.lr=1e-3`."""

import difflib
import re
from dataclasses import dataclass
from typing import Any

from schemas.configs.losses.base import distinct_names
from schemas.configs.parse import parse_yaml
from schemas.errors import ConfigError
from schemas.shown import quoted

Place = tuple[str | int, ...]  # names of fields, and numbers of list items


@dataclass(frozen=True)
class Override:
    """One value and its place. Items of a list are named by their number from 0; those of an objective by their loss,
    too: `objective.sra.weight`."""

    said: str  # how messages name it
    keys: tuple[str, ...]
    value: Any

    def __str__(self) -> str:
        return self.said

    def lay_over(self, data: dict[str, Any]) -> Place:
        """Put the value into `data`, with the sections that it lacks; returns the place. Raises ConfigError if there is
        none."""
        target: Any = data
        place: list[str | int] = []
        try:
            for key in self.keys[:-1]:
                place.append(_key(target, key))
                if isinstance(target, dict):
                    target.setdefault(key, {})
                target = target[place[-1]]
            place.append(_key(target, self.keys[-1]))
            target[place[-1]] = self.value
        except (ValueError, IndexError, TypeError, AttributeError) as error:
            field = ".".join(self.keys)
            raise ConfigError(f"{self}: the config has no such place as {field} ({error})") from error
        return tuple(place)


def read_override(text: str) -> Override:
    """The field and the value of `text`. Raises ConfigError: no `=` or no field, or a value that is not YAML."""
    field, equals, value = text.partition("=")
    if not equals or not field:
        raise ConfigError(f"--set {quoted(text)}: write it as field=value, e.g. --set optimizer.lr=1e-3")
    _, given = parse_yaml(value, f"--set {quoted(text)}: the value")
    return Override(f"--set {quoted(text)}", tuple(field.split(".")), given)


def _key(target: Any, key: str) -> str | int:
    if not isinstance(target, list):
        return key
    if re.fullmatch(r"-?\d+", key):
        return range(len(target))[int(key)]
    names = distinct_names([str(item["loss"]) for item in target if isinstance(item, dict) and "loss" in item])
    if len(names) < len(target):
        raise ValueError(f"{quoted(key)} is not the number of an item of this list, which has {len(target)}")
    if key not in names:
        near = difflib.get_close_matches(key, names, n=1)
        meant = f"; did you mean `{near[0]}`?" if near else ""
        raise ValueError(f"no loss {quoted(key)} is there, only {', '.join(names)}{meant}")
    return names.index(key)
