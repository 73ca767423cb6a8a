"""Names that are given twice: in silence the last would win."""

from collections.abc import Iterable


def repeated(names: Iterable[str]) -> str | None:
    """The first name that stood before, in linear time; None if each stands once."""
    seen: set[str] = set()
    return next((name for name in names if name in seen or seen.add(name)), None)  # type: ignore[func-returns-value]
