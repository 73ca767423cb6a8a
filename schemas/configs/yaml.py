"""Reading a YAML config into its model, with the file, line and field of everything that is wrong with it."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError

from schemas.configs.overrides import Override, read_override
from schemas.configs.parse import parse_yaml
from schemas.configs.problems import Origins
from schemas.errors import ConfigError
from schemas.shown import quoted
from schemas.storage.regular import read_text
from schemas.strict import Strict

Model = TypeVar("Model", bound=Strict)


CONFIG_BYTES = 256 << 10  # PyYAML reads about 100 kB/s
MOST_PROBLEMS = 20  # shown of one config
PRESET = "preset"
INSTEAD = {"steps": "epochs", "epochs": "steps"}  # one displaces the other of what it is laid over


@dataclass(frozen=True)
class Source:
    """The mapping that a config is made of, as it was read, and where it stands."""

    path: Path
    node: yaml.Node | None
    data: dict[str, Any]

    def section(self, name: str) -> "Source":
        """The mapping under `name`, which is a config of its own."""
        assert isinstance(self.node, yaml.MappingNode)
        found = next(value for key, value in self.node.value if key.value == name)
        return Source(self.path, found, self.data[name])


def load_config(
    path: Path | str, model: type[Model], overrides: Sequence[str] = (), presets: Path | None = None
) -> Model:
    """The config in `path`, with `overrides` such as `optimizer.lr=1e-3` laid over it.

    If it says `preset: NAME`, the file presets/NAME.yaml is laid beneath it: mappings field by field, anything else
    (a list, a number) as a whole.

    Raises ConfigError: a file that is unreadable, not regular or above 256 KiB, bad YAML, aliases that unfold to more
    than 100,000 values, a key given twice, half a character, an unknown key (with the nearest known one) or preset, a
    wrong value; every problem on a line of its own, with the line of the file it stands on.
    """
    return build_config(read_source(Path(path)), model, [read_override(override) for override in overrides], presets)


def build_config(
    source: Source, model: type[Model], overrides: Sequence[Override] = (), presets: Path | None = None
) -> Model:
    """The config of `source`, which is left as it is, with `overrides` laid over it. Raises ConfigError as
    `load_config` does."""
    data, given = copy.deepcopy(source.data), list(overrides)
    if presets is not None:
        data, given = _with_preset(data, given, source.path, presets)
    for override in given:
        if override.value is not None:
            data.pop(INSTEAD.get(override.keys[0], ""), None)
    origins = Origins(source.path, source.node, data, [(override.lay_over(data), override) for override in given])
    try:
        return model.model_validate(data)
    except ValidationError as error:
        problems = [origins.describe(problem, model) for problem in error.errors()[:MOST_PROBLEMS]]
        rest = f"\nand {error.error_count() - MOST_PROBLEMS:,} more" if error.error_count() > MOST_PROBLEMS else ""
        raise ConfigError("\n".join(problems) + rest) from error


def read_source(path: Path) -> Source:
    """What the file holds, before any model judges it. Raises ConfigError as `load_config` does."""
    try:
        text = read_text(path, CONFIG_BYTES)
    except OSError as error:
        raise ConfigError(f"cannot read the config {path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"cannot read the config {path}: {error}") from error
    node, data = parse_yaml(text, str(path))
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: a config is a mapping of fields, this file holds {type(data).__name__}")
    return Source(path, node, data)


def dump_config(config: Strict) -> str:
    """`config` as YAML with every default filled in; reading it again gives an equal config."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=100)


def _with_preset(
    data: dict[str, Any], given: Sequence[Override], path: Path, presets: Path
) -> tuple[dict[str, Any], list[Override]]:
    """`data` over the preset that it or the command line names, without what either displaces; and the overrides that
    are still to be laid over it."""
    chosen = [override for override in given if override.keys == (PRESET,)]
    rest = [override for override in given if override.keys != (PRESET,)]
    if not chosen and PRESET not in data:
        return data, rest
    name = chosen[-1].value if chosen else data[PRESET]
    own = {field: value for field, value in data.items() if field != PRESET}
    said = {*own, *(override.keys[0] for override in rest)}
    preset = _preset(name, str(chosen[-1]) if chosen else str(path), presets)
    return _over({field: value for field, value in preset.items() if INSTEAD.get(field) not in said}, own), rest


def _preset(name: Any, origin: str, presets: Path) -> dict[str, Any]:
    known = sorted(file.stem for file in presets.glob("*.yaml"))
    if name not in known:
        raise ConfigError(f"{origin}: unknown preset {quoted(name)}; available: {', '.join(known)}")
    data: dict[str, Any] = yaml.safe_load((presets / f"{name}.yaml").read_text(encoding="utf-8"))
    return data


def _over(lower: dict[str, Any], upper: dict[str, Any]) -> dict[str, Any]:
    """`upper` laid over `lower`."""
    both = {
        key: _over(lower[key], value) if isinstance(lower.get(key), dict) and isinstance(value, dict) else value
        for key, value in upper.items()
    }
    return lower | both
