"""Finding things that are one object each: losses, kinds of states, formats; built in or of other installed packages.

Another package names its objects as entry points of a group (`[project.entry-points."stillroom.state_kinds"]` in its
pyproject.toml). So every process finds them, also a worker on another machine, and imports only what is asked for.
"""

import pkgutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, TypeVar

from schemas.errors import ConfigError, StillroomError
from schemas.shown import quoted

T = TypeVar("T")


class Registry(Mapping[str, T], Generic[T]):
    """Objects by their `name`, in ascending `order` where they have one, and then by name. Found at first use."""

    def __init__(
        self,
        what: str,
        package: str,
        attribute: str,
        group: str,
        check: Callable[[T], None] | None = None,
        distinct: str | None = None,
    ):
        """`package` is searched, not its subpackages, for modules that have `attribute`; `group` is of entry points.

        `what` names one of them in messages; `check` may refuse another package's by raising ValueError. `distinct` is
        an attribute of several strings, none of which two objects may share.
        """
        self.what, self.package, self.attribute, self.group = what, package, attribute, group
        self.check, self.distinct = check, distinct
        self._packages: dict[str, str] = {}  # by name: of those that other packages bring

    def __getitem__(self, name: str) -> T:
        return self._found[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._found)

    def __len__(self) -> int:
        return len(self._found)

    def find(self, name: str) -> T:
        """Raises ConfigError for an unknown name, with the names that are known."""
        if name not in self._found:
            raise ConfigError(
                f"unknown {self.what} {name!r}; available: {', '.join(self)}; others come with packages that have "
                f"entry points of the group {self.group}, and these must be installed on every machine"
            )
        return self._found[name]

    def own(self, name: str) -> bool:
        """Returns whether stillroom itself brings it."""
        return name in self._found and name not in self._packages

    @contextmanager
    def using(self, name: str, *told: type[Exception]) -> Iterator[T]:
        """The object, for a call of its code. Raises ConfigError that names its package for whatever that raises.

        What is the user's to mend goes through, a StillroomError or one of `told`; and all that stillroom's own raise.
        """
        through: tuple[type[Exception], ...] = (StillroomError, MemoryError, *told)
        try:
            yield self._found[name]
        except through:
            raise
        except (Exception, SystemExit) as error:
            if name not in self._packages:
                raise
            raise ConfigError(
                f"the {self.what} {name!r} of {self._packages[name]} failed: {_said(error)}; "
                "mend that package or uninstall it"
            ) from error

    @cached_property
    def _found(self) -> dict[str, T]:
        origins: dict[tuple[str, str], str] = {}  # of every string that only one may have
        found: dict[str, tuple[int, T]] = {}
        for item, origin, is_own in self._every():
            name, order, shared = self._read(item, origin, is_own)
            for key in (("", name), *((f" by its {self.distinct}", value) for value in shared)):
                if key in origins:
                    raise ConfigError(
                        f"the {self.what} {key[1]!r}{key[0]} is brought twice: by {origins[key]} and {origin}"
                    )
                origins[key] = origin
            found[name] = order, item
            if not is_own:
                self._packages[name] = origin
        ordered = sorted(found, key=lambda name: (found[name][0], name))
        return {name: found[name][1] for name in ordered}

    def _every(self) -> Iterator[tuple[T, str, bool]]:
        """Each object, where it comes from, and whether it is stillroom's own."""
        for item, origin in self._own():
            yield item, origin, True
        for item, origin in self._installed():
            yield item, origin, False

    def _read(self, item: Any, origin: str, is_own: bool) -> tuple[str, int, tuple[str, ...]]:
        """Its name, its order, and the strings that no other may share. Raises ConfigError if it cannot be used."""
        try:
            if self.check is not None and not is_own:
                self.check(item)
            name, order = getattr(item, "name", None), getattr(item, "order", 0)
            if not isinstance(name, str) or not name.isidentifier():
                raise ValueError(f"it has no usable name: {quoted(name)}")
            if type(order) is not int:
                raise ValueError(f"its `order` is {quoted(order)}, not an integer")
            return name, order, tuple(getattr(item, self.distinct)) if self.distinct else ()
        # An attribute of another's object may be a property, which may raise anything.
        except (Exception, SystemExit) as error:
            said = str(error) if isinstance(error, ValueError) else _said(error)
            raise ConfigError(f"the {self.what} of {origin} cannot be used: {said}") from error

    def _own(self) -> Iterator[tuple[T, str]]:
        for module in pkgutil.iter_modules(import_module(self.package).__path__):
            path = f"{self.package}.{module.name}"
            if not module.ispkg and hasattr(found := import_module(path), self.attribute):
                yield getattr(found, self.attribute), path

    def _installed(self) -> Iterator[tuple[T, str]]:
        for entry in entry_points(group=self.group):
            origin = f"{entry.dist.name} {entry.dist.version}" if entry.dist else entry.value
            yield self._load(entry, origin), origin

    def _load(self, entry: EntryPoint, origin: str) -> Any:
        try:
            return entry.load()
        except StillroomError:
            raise
        # Another's module may raise anything; it is passed on, named. One that leaves Python must not end the command
        # as if its work were done. KeyboardInterrupt cannot be told from a Ctrl-C, and is taken for one.
        except (Exception, SystemExit) as error:
            raise ConfigError(
                f"cannot load the {self.what} {entry.value} of {origin}: {_said(error)}; "
                "mend that package or uninstall it"
            ) from error


def _said(error: BaseException) -> str:
    """An error of another's code on one line."""
    if isinstance(error, SystemExit):
        return f"it tried to end the program (SystemExit: {quoted(error.code)})"
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
