"""Reading a YAML config into its model, with the file, line and field of everything that is wrong with it."""

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from schemas.configs.nodes import check_nodes
from schemas.errors import ConfigError
from schemas.shown import quoted
from schemas.storage.regular import read_text
from schemas.strict import Strict

Model = TypeVar("Model", bound=Strict)


CONFIG_BYTES = 256 << 10  # PyYAML reads about 100 kB/s
MOST_PROBLEMS = 20  # shown of one config
PRESET = "preset"
INSTEAD = {"steps": "epochs", "epochs": "steps"}  # one displaces the other of a preset


class _Loader(yaml.SafeLoader):
    """YAML's safe loader with one kind of error; by itself it lets any error of an invalid date or number through."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (ValueError, TypeError, LookupError, AttributeError) as error:
            problem = f"{quoted(node.value)} cannot be read: {error}; text stands in quotes"
            raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark) from error


def load_config(path: Path, model: type[Model], overrides: Sequence[str] = (), presets: Path | None = None) -> Model:
    """The config in `path`, with `overrides` such as `optimizer.lr=1e-3` laid over it.

    If it says `preset: NAME`, the file presets/NAME.yaml is laid beneath it: mappings field by field, anything else
    (a list, a number) as a whole.

    Raises ConfigError: a file that is unreadable, not regular or above 256 KiB, bad YAML, aliases that unfold to more
    than 100,000 values, a key given twice, half a character, an unknown key (with the nearest known one) or preset, a
    wrong value; every problem on a line of its own, with the line of the file it stands on.
    """
    node, data = _read(path)
    if presets is not None and PRESET in data:
        preset = _preset(data.pop(PRESET), path, presets)
        data = _over({name: value for name, value in preset.items() if INSTEAD.get(name) not in data}, data)
    for override in overrides:
        _lay_over(data, override)
    try:
        return model.model_validate(data)
    except ValidationError as error:
        problems = [_describe(problem, node, path, model) for problem in error.errors()[:MOST_PROBLEMS]]
        rest = f"\nand {error.error_count() - MOST_PROBLEMS:,} more" if error.error_count() > MOST_PROBLEMS else ""
        raise ConfigError("\n".join(problems) + rest) from error


def _read(path: Path) -> tuple[yaml.Node | None, dict[str, Any]]:
    try:
        text = read_text(path, CONFIG_BYTES)
    except OSError as error:
        raise ConfigError(f"cannot read the config {path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"cannot read the config {path}: {error}") from error
    node, data = _parse(text, str(path))
    if not isinstance(data, dict):
        raise ConfigError(f"{path}: a config is a mapping of fields, this file holds {type(data).__name__}")
    return node, data


def _parse(text: str, place: str) -> tuple[yaml.Node | None, Any]:
    """The nodes and the value of a YAML text. Raises ConfigError that begins with `place`."""
    loader = None
    try:
        loader = _Loader(text)
        node = loader.get_single_node()
        check_nodes(node, place)
        return node, None if node is None else loader.construct_document(node)
    except yaml.YAMLError as error:
        raise ConfigError(f"{place} is not valid YAML: {error}") from error
    except RecursionError as error:
        raise ConfigError(f"{place} is nested too deeply, or an alias in it stands within its own anchor") from error
    finally:
        if loader is not None:
            loader.dispose()


def dump_config(config: Strict) -> str:
    """`config` as YAML with every default filled in; reading it again gives an equal config."""
    return yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=100)


def _preset(name: Any, path: Path, presets: Path) -> dict[str, Any]:
    known = sorted(file.stem for file in presets.glob("*.yaml"))
    if name not in known:
        raise ConfigError(f"{path}: unknown preset {quoted(name)}; available: {', '.join(known)}")
    data: dict[str, Any] = yaml.safe_load((presets / f"{name}.yaml").read_text(encoding="utf-8"))
    return data


def _over(lower: dict[str, Any], upper: dict[str, Any]) -> dict[str, Any]:
    """`upper` laid over `lower`."""
    both = {
        key: _over(lower[key], value) if isinstance(lower.get(key), dict) and isinstance(value, dict) else value
        for key, value in upper.items()
    }
    return lower | both


def _lay_over(data: dict[str, Any], override: str) -> None:
    key, equals, value = override.partition("=")
    if not equals or not key:
        raise ConfigError(f"--set {quoted(override)}: write it as field=value, e.g. --set optimizer.lr=1e-3")
    _, given = _parse(value, f"--set {quoted(override)}: the value")
    *parents, last = key.split(".")
    target: Any = data
    try:
        for parent in parents:
            target = target[int(parent)] if isinstance(target, list) else target.setdefault(parent, {})
        target[int(last) if isinstance(target, list) else last] = given
    except (ValueError, IndexError, TypeError, AttributeError) as error:
        raise ConfigError(f"--set {quoted(override)}: the config has no such place ({error})") from error


def _describe(problem: Any, root: yaml.Node | None, path: Path, model: type[BaseModel]) -> str:
    place: list[str] = []
    line, node = None, root
    for part in problem["loc"]:
        child = _child(node, part)
        if child is not None:
            node, line = child[0], child[1]
        if child is not None or not _is_tag(part, problem["loc"]):
            place.append(str(part))
    where = f"{path}:{line}" if line is not None else str(path)
    message = problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "extra_forbidden":
        message = "unknown field" + _suggestion(str(problem["loc"][-1]), model, problem["loc"][:-1])
    elif problem["type"] == "missing":
        message = "this field is required"
    given = problem.get("input")
    if problem["type"] not in ("missing", "extra_forbidden") and isinstance(given, (str, int, float, bool)):
        message += f" (given: {quoted(given)})"
    return f"{where}: {_shown_place(place)}: {message}"


def _shown_place(place: Sequence[str]) -> str:
    dotted = ".".join(place)
    return (dotted if dotted.isprintable() and len(dotted) <= 200 else quoted(dotted)) or "config"


def _is_tag(part: Any, loc: tuple[Any, ...]) -> bool:
    """Pydantic puts the discriminator's value and the names of union members into the place; the file has neither."""
    return (isinstance(part, str) and part != loc[-1]) or (isinstance(part, str) and "[" in part)


def _child(node: yaml.Node | None, part: Any) -> tuple[yaml.Node, int] | None:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value == str(part):
                return value, key.start_mark.line + 1
    if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
        return node.value[part], node.value[part].start_mark.line + 1
    return None


def _suggestion(name: str, model: type[BaseModel], parents: tuple[Any, ...]) -> str:
    names = _all_fields(model, set())
    near = difflib.get_close_matches(name, names, n=1)
    return f"; did you mean `{near[0]}`?" if near else ""


def _all_fields(model: type[BaseModel], seen: set[type[BaseModel]]) -> list[str]:
    """Every field name below `model`: near enough for a suggestion, and it needs no walk in step with the place."""
    if model in seen:
        return []
    seen.add(model)
    names = list(model.model_fields)
    for field in model.model_fields.values():
        stack = [field.annotation]
        while stack:
            annotation = stack.pop()
            if isinstance(annotation, type) and issubclass(annotation, BaseModel):
                names += _all_fields(annotation, seen)
            stack += getattr(annotation, "__args__", ())
            for mark in getattr(annotation, "__metadata__", ()):
                stack += getattr(mark, "choices", ())
    return names
