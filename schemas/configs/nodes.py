"""Refusing YAML before values are made of it, if something would be lost in silence or never end."""

import yaml

from schemas.errors import ConfigError
from schemas.shown import quoted
from schemas.texts.surrogates import describe_surrogate

MOST_VALUES = 100_000  # with every alias unfolded: nine lines of ten aliases each stand for a thousand million values


def check_nodes(root: yaml.Node | None, place: str) -> None:
    """Raises ConfigError: a key given twice, of which YAML keeps the last; a key that is not one word; half a character
    or a zero byte in a text; more than MOST_VALUES values. RecursionError if an alias stands within its own anchor."""
    values: dict[int, int] = {}
    if root is not None and _check(root, place, values, frozenset()) > MOST_VALUES:
        raise ConfigError(
            f"{place} holds more than {MOST_VALUES:,} values, with its aliases unfolded; write less into it"
        )


def _check(node: yaml.Node, place: str, values: dict[int, int], above: frozenset[int]) -> int:
    """How many values stand in `node`, aliases unfolded. Each node is looked at once, whatever refers to it."""
    name = id(node)
    if name in above:
        raise RecursionError
    if name not in values:
        below = above | {name} if isinstance(node, yaml.CollectionNode) else above
        if isinstance(node, yaml.MappingNode):
            _check_keys(node, place)
            values[name] = 1 + sum(_check(value, place, values, below) for _, value in node.value)
        elif isinstance(node, yaml.SequenceNode):
            values[name] = 1 + sum(_check(item, place, values, below) for item in node.value)
        else:
            _check_text(node, place)
            values[name] = 1
    return values[name]


def _check_keys(node: yaml.MappingNode, place: str) -> None:
    seen: dict[str, int] = {}
    for key, _ in node.value:
        line = key.start_mark.line + 1
        if not isinstance(key, yaml.ScalarNode):
            raise ConfigError(f"{place}:{line}: a key is one word, this is a {key.id}")
        _check_text(key, place)
        if key.value in seen:
            raise ConfigError(f"{place}:{line}: {quoted(key.value)} is given twice (first on line {seen[key.value]})")
        seen[key.value] = line


def _check_text(node: yaml.Node, place: str) -> None:
    problem = describe_surrogate(node.value) if isinstance(node.value, str) else None
    if problem is None and "\0" in node.value:
        problem = "a zero byte, which no text or path of a config can hold"
    if problem is not None:
        raise ConfigError(f"{place}:{node.start_mark.line + 1}: {quoted(node.value)} holds {problem}")
