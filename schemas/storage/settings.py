"""What this process's environment says of the storages that it uses, for processes of it on other machines."""

import os
from collections.abc import Iterator

from schemas.storage.objects import opened_schemes

# How the variables of each library begin, by the scheme that it is best known by. fsspec itself has some for all.
PREFIXES = {"s3": "AWS_", "gs": "GOOGLE_", "az": "AZURE_", "hf": "HF_"}
OF_THIS_MACHINE = ("AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI")


def storage_settings() -> dict[str, str]:
    """The variables of all storages that files were read from or written to so far: keys, regions, endpoints. Not those
    that name a file or a profile, which another machine has no such of."""
    prefixes = tuple(_prefixes())
    return {
        name: value
        for name, value in os.environ.items()
        if prefixes and name.startswith(prefixes) and name not in OF_THIS_MACHINE and not os.path.exists(value)
    }


def _prefixes() -> Iterator[str]:
    for scheme in opened_schemes():
        yield f"FSSPEC_{scheme.upper()}_"
        if scheme in PREFIXES:
            yield PREFIXES[scheme]
