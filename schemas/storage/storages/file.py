"""URLs of this machine's own files."""

from pathlib import Path
from urllib.parse import unquote, urlsplit

from schemas.storage.storage import Storage


class FileStorage(Storage):
    """file:///folder/name, with %20 and the like for characters that a URL cannot have (RFC 8089)."""

    name = "file"

    def locate(self, url: str) -> Path:
        """See `Storage.locate`. Raises ValueError for another machine, and for a `?` or `#` part."""
        parts = urlsplit(url)
        if parts.netloc not in ("", "localhost"):
            raise ValueError(f"it names the machine {parts.netloc!r}; give file:///folder/name for a place on this one")
        if parts.query or parts.fragment:
            raise ValueError("it has a `?` or `#` part, which a file does not; write %3F or %23 for the character")
        return Path(unquote(parts.path, errors="surrogateescape"))


STORAGE = FileStorage()
