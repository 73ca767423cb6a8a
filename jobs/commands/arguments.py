"""Arguments and options that several commands have, and what reads places."""

from pathlib import Path
from typing import Annotated

import typer

from schemas.errors import ConfigError
from schemas.storage.remote import locate_anywhere
from schemas.storage.storage import locate


def to_place(text: str) -> Path:
    """A path, where `~` begins at a home folder, or the URL of a known storage."""
    try:
        return locate(text)
    except ValueError as error:
        raise ConfigError(str(error)) from error


def to_any_place(text: str) -> Path:
    """The same, or of what lies under any other URL the path of its copy."""
    try:
        return locate_anywhere(text)
    except ValueError as error:
        raise ConfigError(str(error)) from error


def to_model(text: str) -> str:
    """A folder or a file as `to_place` finds it, or a hub id."""
    from schemas.bounds import locate_model

    try:
        return str(locate_model(text))
    except ValueError as error:
        raise ConfigError(str(error)) from error


ConfigPath = Annotated[
    Path,
    typer.Argument(
        parser=to_place,
        metavar="CONFIG.yaml",
        help="The config file; `stillroom schema extract` (or import, train, generate) describes its fields.",
    ),
]
CachePath = Annotated[
    Path,
    typer.Argument(
        parser=to_any_place, metavar="CACHE", help="A cache folder that `stillroom extract` wrote, or its URL."
    ),
]
Overrides = Annotated[
    list[str],
    typer.Option(
        "--set",
        metavar="FIELD=VALUE",
        help="Override one field, e.g. optimizer.lr=1e-3, or in a list by number from 0, e.g. objective.1.weight=0.5; "
        "may be repeated.",
    ),
]
