"""YAML as nodes and values: one kind of error, which begins with its place."""

from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from schemas.configs.parse import parse_yaml
from schemas.errors import ConfigError

PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**6), 10**6)
    | st.text(st.characters(exclude_categories=["C"]), max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abcd"), inner, max_size=3),
    max_leaves=8,
)


@given(PLAIN)
def test_values_are_those_of_yamls_safe_loader(value: Any) -> None:
    text = yaml.safe_dump(value, allow_unicode=True)
    assert parse_yaml(text, "a.yaml")[1] == value


def test_nodes_know_their_lines() -> None:
    root, value = parse_yaml("# first\na: 1\nb:\n  - x\n  - y\n", "a.yaml")
    assert isinstance(root, yaml.MappingNode) and value == {"a": 1, "b": ["x", "y"]}
    assert [key.start_mark.line for key, _ in root.value] == [1, 2]
    assert [item.start_mark.line for item in root.value[1][1].value] == [3, 4]
    assert parse_yaml("", "a.yaml") == (None, None) and parse_yaml("# nothing\n", "a.yaml") == (None, None)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [1\n", r"^a\.yaml is not valid YAML: "),
        ("a: 1\n---\nb: 2\n", r"^a\.yaml is not valid YAML: expected a single document"),
        ("a: !!python/object/apply:os.system [ls]\n", r"^a\.yaml is not valid YAML: could not determine a constructor"),
        ("a: 2024-02-31\n", r"'2024-02-31' cannot be read: day .* text stands in quotes(.|\n)*line 1, column 4"),
        ("a: !!int x1\n", r"'x1' cannot be read: "),
        ("a: &x {b: *x}\n", r"^a\.yaml is nested too deeply, or an alias in it stands within its own anchor$"),
        ("[" * 4000, r"^a\.yaml is nested too deeply"),
        ("a: 1\na: 2\n", r"^a\.yaml:2: 'a' is given twice"),
    ],
)
def test_what_is_no_config_ends_in_one_error(text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        parse_yaml(text, "a.yaml")
