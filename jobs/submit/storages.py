"""What this shell says of the storages whose URLs a config names: sent along with a job only if that is asked for.

Keys are among it, which Ray keeps in its records of a job and shows to all who may open the dashboard; and on machines
that have a role of their own, a key of somebody else's would go before it.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from schemas.storage.remote import is_remote
from schemas.storage.settings import storage_settings
from schemas.storage.storage import scheme_of

OPTION = "--storage-settings"


def settings_for(config: Any) -> Mapping[str, str]:
    """The variables of this environment for the storages of all URLs in a config, which is plain values."""
    return storage_settings({scheme for text in _texts(config) if is_remote(text) and (scheme := scheme_of(text))})


def say_not_sent(found: Mapping[str, str]) -> str:
    """One line that names the variables which stay here, and the option that would send them."""
    return (
        f"not sent along: {', '.join(sorted(found))}; the cluster reaches the config's URLs by what its machines say, "
        f"or by these with {OPTION}, and Ray's own records then show them"
    )


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, (dict, list)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _texts(item)
