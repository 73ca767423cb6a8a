"""Errors on their way to another process: their class and their words."""

import pytest

from schemas import errors
from schemas.errors import ResourceError, RunError, StillroomError, error_of, kind_of


class Other(ResourceError):
    """Of another module, whose class the other process may not have."""


@pytest.mark.parametrize("kind", StillroomError.__subclasses__())
def test_every_error_is_told_and_comes_back(kind: type[StillroomError]) -> None:
    if kind.__module__ != errors.__name__:
        return
    back = error_of(kind_of(kind("why")), "why")
    assert type(back) is kind and str(back) == "why"


def test_what_has_no_class_here_has_the_nearest() -> None:
    assert kind_of(Other("x")) == "ResourceError" and type(error_of("ResourceError", "x")) is ResourceError
    assert kind_of(ZeroDivisionError("x")) == "RunError" and type(error_of("Other", "x")) is RunError
