"""Finding things that are one object each: losses, kinds of states, formats; built in or of other installed packages.

Another package names its objects as entry points of a group (`[project.entry-points."stillroom.state_kinds"]` in its
pyproject.toml). So every process finds them, also a worker on another machine, and imports only what is asked for.
"""

import pkgutil
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, TypeVar

from schemas.errors import ConfigError, StillroomError

T = TypeVar("T")


class Registry(Mapping[str, T], Generic[T]):
    """Objects by their `name`, in ascending `order` where they have one, and then by name. Found at first use."""

    def __init__(self, what: str, package: str, attribute: str, group: str, check: Callable[[T], None] | None = None):
        """`package` is searched, not its subpackages, for modules that have `attribute`; `group` is of entry points.

        `what` names one of them in messages; `check` may refuse one by raising ValueError.
        """
        self.what, self.package, self.attribute, self.group, self.check = what, package, attribute, group, check

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

    @cached_property
    def _found(self) -> dict[str, T]:
        found: dict[str, tuple[T, str]] = {}
        for item, origin in [*self._own(), *self._installed()]:
            name: Any = getattr(item, "name", None)
            if not isinstance(name, str) or not name.isidentifier():
                raise ConfigError(f"the {self.what} of {origin} has no usable name: {name!r}")
            if name in found:
                raise ConfigError(f"the {self.what} {name!r} is brought twice: by {found[name][1]} and {origin}")
            found[name] = item, origin
        ordered = sorted(found, key=lambda name: (getattr(found[name][0], "order", 0), name))
        return {name: found[name][0] for name in ordered}

    def _own(self) -> Iterator[tuple[T, str]]:
        for module in pkgutil.iter_modules(import_module(self.package).__path__):
            path = f"{self.package}.{module.name}"
            if not module.ispkg and hasattr(found := import_module(path), self.attribute):
                yield getattr(found, self.attribute), path

    def _installed(self) -> Iterator[tuple[T, str]]:
        for entry in entry_points(group=self.group):
            origin = f"{entry.dist.name} {entry.dist.version}" if entry.dist else entry.value
            item: T = self._load(entry, origin)
            if self.check is not None:
                try:
                    self.check(item)
                except ValueError as error:
                    raise ConfigError(f"the {self.what} of {origin} cannot be used: {error}") from error
            yield item, origin

    def _load(self, entry: EntryPoint, origin: str) -> Any:
        try:
            return entry.load()
        except StillroomError:
            raise
        # Another's module may raise anything; it is passed on, named.
        except Exception as error:
            raise ConfigError(
                f"cannot load the {self.what} {entry.value} of {origin}: {type(error).__name__}: {error}; "
                "mend that package or uninstall it"
            ) from error
