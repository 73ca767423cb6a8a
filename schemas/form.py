"""The form that an object of another package must have: of which class it is, and what its attributes hold."""

from inspect import get_annotations
from typing import Any, ClassVar, get_args, get_origin

from pydantic import ConfigDict, TypeAdapter, ValidationError

_EXACT = ConfigDict(arbitrary_types_allowed=True, strict=True)


def require_instance(thing: Any, base: type[Any]) -> None:
    """Raises ValueError unless `thing` is an instance of `base`, with every attribute that `base` declares, as it does.

    Whatever a property of `thing` raises goes through.
    """
    if not isinstance(thing, base):
        kind = f"the class {thing.__name__}" if isinstance(thing, type) else f"a {type(thing).__name__}"
        raise ValueError(f"it is {kind}, not an object of {_path(base)}")
    _require_attributes(thing, {name: _held(hint) for name, hint in get_annotations(base).items()})


def require_subclass(thing: Any, base: type[Any]) -> None:
    """Raises ValueError unless `thing` is a class derived from `base`, with every class attribute that it declares."""
    if not (isinstance(thing, type) and issubclass(thing, base)):
        raise ValueError(f"it is not a class derived from {_path(base)}")
    hints = get_annotations(base).items()
    _require_attributes(thing, {name: _held(hint) for name, hint in hints if _held(hint) != hint})


def _require_attributes(thing: Any, hints: dict[str, Any]) -> None:
    for name, hint in hints.items():
        if not hasattr(thing, name):
            raise ValueError(f"it has no `{name}`")
        require_type(getattr(thing, name), hint, f"its `{name}`")


def require_type(value: Any, hint: Any, place: str) -> None:
    """Raises ValueError, beginning with `place`, unless `value` is what the annotation `hint` says."""
    try:
        TypeAdapter(hint, config=_EXACT).validate_python(value)
    except ValidationError as error:
        raise ValueError(f"{place}: {error.errors()[0]['msg']}") from error


def _held(hint: Any) -> Any:
    """The type in a `ClassVar[type]`."""
    return get_args(hint)[0] if get_origin(hint) is ClassVar else hint


def _path(base: type[Any]) -> str:
    return f"{base.__module__}.{base.__qualname__}"
