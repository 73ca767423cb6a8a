"""Problems of a config in one line each: where the value came from, its whole field, and what is wrong."""

from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import ValidationError

from schemas.configs.parse import parse_yaml
from schemas.configs.problems import Origins
from schemas.strict import Strict


class Round(Strict):
    """One of two."""

    shape: Literal["round"] = "round"
    radius: float = 1.0


class Flat(Strict):
    """The other."""

    shape: Literal["flat"] = "flat"
    width: int = 1


class Paint(Strict):
    """A section."""

    colour: str = "red"
    layers: int = 1


class Thing(Strict):
    """The whole."""

    size: int
    paint: Paint = Paint()
    parts: list[Round | Flat] = []


def lines(text: str) -> list[str]:
    root, data = parse_yaml(text, "a.yaml")
    with pytest.raises(ValidationError) as refused:
        Thing.model_validate(data)
    origins = Origins(Path("a.yaml"), root, data, ())
    return [origins.describe(problem, Thing) for problem in refused.value.errors()]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("paint: {}\n", "a.yaml: size: this field is required"),
        (
            "size: big\n",
            "a.yaml:1: size: Input should be a valid integer (given: 'big')",
        ),
        ("size: 1\n\npaint:\n  colur: blue\n", "a.yaml:4: paint.colur: unknown field; did you mean `colour`?"),
        ("size: 1\nlayers: 2\n", "a.yaml:2: layers: unknown field; did you mean `paint.layers`?"),
        ("size: 1\nradius: 2\n", "a.yaml:2: radius: unknown field; did you mean `parts.N.radius`?"),
        ("size: 1\nzzzzzz: 2\n", "a.yaml:2: zzzzzz: unknown field"),
        ("size: 1\npaint: {layers: [1]}\n", "a.yaml:2: paint.layers: Input should be a valid integer"),
        ('size: 1\n"a\\nb": 2\n', "a.yaml:2: 'a\\nb': unknown field"),
    ],
)
def test_each_is_named_by_line_and_field(text: str, said: str) -> None:
    assert lines(text) == [said]


def test_an_item_of_a_list_has_its_own_line_and_no_name_of_a_class() -> None:
    found = lines("size: 1\nparts:\n  - shape: flat\n    width: 1\n  - shape: flat\n    width: wide\n")
    assert "a.yaml:6: parts.1.width: Input should be a valid integer (given: 'wide')" in found
    assert all(line.startswith("a.yaml:") and "Flat" not in line and "Round" not in line for line in found)


def test_without_nodes_the_file_is_named_alone() -> None:
    data: dict[str, Any] = {"size": "x"}
    with pytest.raises(ValidationError) as refused:
        Thing.model_validate(data)
    (problem,) = refused.value.errors()
    assert Origins(Path("b.yaml"), None, data, ()).describe(problem, Thing).startswith("b.yaml: size: Input should")
