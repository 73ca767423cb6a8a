"""A part of a config is of the class that its name finds, whatever the registry holds when it is asked."""

from typing import Annotated, Any, Literal

import pytest
from pydantic import TypeAdapter, ValidationError

from schemas.configs.choice import ChosenByName
from schemas.registry import Registry
from schemas.strict import Strict


class Shape(Strict):
    """The base."""


class Circle(Shape):
    """Round."""

    shape: Literal["circle"] = "circle"
    radius: float = 1.0


class Square(Shape):
    """Not round."""

    shape: Literal["square"] = "square"
    side: int


@pytest.fixture
def adapter() -> TypeAdapter[Any]:
    registry: Registry[type[Shape]] = Registry("shape", "schemas", "NO_SUCH_ATTRIBUTE", "stillroom.no_such_group")
    registry.__dict__["_found"] = {"square": Square, "circle": Circle}
    return TypeAdapter(Annotated[Shape, ChosenByName("shape", registry)])


def test_the_name_decides_the_class(adapter: TypeAdapter[Any]) -> None:
    assert adapter.validate_python({"shape": "circle"}) == Circle(radius=1.0)
    assert adapter.validate_python({"shape": "square", "side": 2}) == Square(side=2)
    circle = Circle(radius=3)
    assert adapter.validate_python(circle) is circle


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({"shape": "squre", "side": 1}, "unknown shape 'squre'; did you mean `square`? available: square, circle"),
        ({"shape": "line"}, "unknown shape 'line'; available: square, circle"),
        ({"shape": 3}, "unknown shape 3; available: square, circle"),
        ({"shape": ["circle"]}, "available: square, circle"),
        ({"radius": 1.0}, "a shape is a mapping with `shape`, one of square, circle"),
        ("circle", "a shape is a mapping with `shape`, one of square, circle"),
        ({"shape": "square", "side": 1.5}, "side\n  Input should be a valid integer"),
        ({"shape": "circle", "side": 1}, "side\n  Extra inputs are not permitted"),
    ],
)
def test_what_fits_no_class_is_named(adapter: TypeAdapter[Any], value: Any, said: str) -> None:
    with pytest.raises(ValidationError) as refused:
        adapter.validate_python(value)
    assert said in str(refused.value)


def test_the_schema_lists_every_class(adapter: TypeAdapter[Any]) -> None:
    schema = adapter.json_schema()
    assert schema["discriminator"]["propertyName"] == "shape"
    assert schema["discriminator"]["mapping"].keys() == {"circle", "square"}
    assert [part["$ref"].rpartition("/")[2] for part in schema["oneOf"]] == ["Circle", "Square"]
