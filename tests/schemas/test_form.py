"""What another package's object must be: an instance, or a class, with all that its base declares."""

from abc import ABC
from collections.abc import Callable
from typing import Any, ClassVar

import pytest

from schemas.form import require_instance, require_subclass, require_type


class Fruit(ABC):
    name: str
    seeds: ClassVar[tuple[str, ...]] = ()
    peel: Callable[[], None]
    weight: float = 1.0


class Pear(Fruit):
    name = "pear"

    def peel(self) -> None: ...


def changed(**attributes: Any) -> Fruit:
    fruit: Fruit = type("Changed", (Pear,), attributes)()
    return fruit


def test_an_object_has_what_its_base_declares() -> None:
    require_instance(Pear(), Fruit)
    require_instance(changed(seeds=("a", "b"), weight=2, other=object()), Fruit)


@pytest.mark.parametrize(
    ("thing", "said"),
    [
        (3, r"it is a int, not an object of tests\.schemas\.test_form\.Fruit"),
        (Pear, r"it is the class Pear, not an object of tests\.schemas\.test_form\.Fruit"),
        (Fruit(), "it has no `name`"),
        (changed(name=3), "its `name`: Input should be a valid string"),
        (changed(seeds="ab"), "its `seeds`: Input should be a valid tuple"),
        (changed(seeds=(1,)), "its `seeds`: Input should be a valid string"),
        (changed(peel=None), "its `peel`: Input should be callable"),
        (changed(weight="1"), "its `weight`: Input should be a valid number"),
    ],
)
def test_what_is_not_as_declared_is_said(thing: Any, said: str) -> None:
    with pytest.raises(ValueError, match=f"^{said}$"):
        require_instance(thing, Fruit)


def test_a_class_has_the_class_attributes_of_its_base() -> None:
    require_subclass(Fruit, Fruit)  # `name` is for its instances
    for thing in (3, Pear(), int):
        with pytest.raises(ValueError, match=r"^it is not a class derived from tests\.schemas\.test_form\.Fruit$"):
            require_subclass(thing, Fruit)
    with pytest.raises(ValueError, match=r"^its `seeds`: Input should be a valid tuple$"):
        require_subclass(type(changed(seeds=[])), Fruit)


def test_a_type_is_exact() -> None:
    require_type({"a": 1.0}, dict[str, float], "figures")
    with pytest.raises(ValueError, match=r"^figures: Input should be a valid integer$"):
        require_type(True, int, "figures")
