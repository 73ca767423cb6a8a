"""What this process's environment says of the storages that it uses, for processes of it on other machines."""

import os
from collections.abc import Collection, Iterator

from schemas.storage.objects import opened_schemes
from schemas.storage.remote import other_names

# How the variables of each library begin, by the scheme that it is best known by. fsspec itself has some for all.
PREFIXES = {"s3": "AWS_", "gs": "GOOGLE_", "az": "AZURE_", "hf": "HF_"}
OF_THIS_MACHINE = ("AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI")


def storage_settings(schemes: Collection[str] | None = None) -> dict[str, str]:
    """The variables of the storages of these schemes, or of all that files were read from or written to so far: keys,
    regions, endpoints. Not those that name a file or a profile, which another machine has no such of."""
    names = opened_schemes() if schemes is None else {name for scheme in schemes for name in other_names(scheme)}
    prefixes = tuple(_prefixes(names))
    return {
        name: value
        for name, value in os.environ.items()
        if prefixes and name.startswith(prefixes) and name not in OF_THIS_MACHINE and not os.path.exists(value)
    }


def _prefixes(schemes: Collection[str]) -> Iterator[str]:
    for scheme in schemes:
        yield f"FSSPEC_{scheme.upper()}_"
        if scheme in PREFIXES:
            yield PREFIXES[scheme]
