"""Values that a command line lays over a config: `--set optimizer.lr=1e-3`."""

from dataclasses import dataclass
from typing import Any

from schemas.configs.parse import parse_yaml
from schemas.errors import ConfigError
from schemas.shown import quoted

Place = tuple[str | int, ...]  # names of fields, and numbers of list items


@dataclass(frozen=True)
class Override:
    """One `--set`."""

    text: str  # as it was given
    keys: tuple[str, ...]
    value: Any

    def __str__(self) -> str:
        return f"--set {quoted(self.text)}"

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
            raise ConfigError(f"{self}: the config has no such place ({error})") from error
        return tuple(place)


def read_override(text: str) -> Override:
    """The field and the value of `text`. Raises ConfigError: no `=` or no field, or a value that is not YAML."""
    field, equals, value = text.partition("=")
    if not equals or not field:
        raise ConfigError(f"--set {quoted(text)}: write it as field=value, e.g. --set optimizer.lr=1e-3")
    _, given = parse_yaml(value, f"--set {quoted(text)}: the value")
    return Override(text, tuple(field.split(".")), given)


def _key(target: Any, key: str) -> str | int:
    return range(len(target))[int(key)] if isinstance(target, list) else key
