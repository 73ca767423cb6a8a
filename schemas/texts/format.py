"""A format of record files as one object, and how a file's format is known: by the end of its name, in any case.

A new format is a module of `schemas.texts.formats` with a `FORMAT`, or an entry point of the group
`stillroom.record_formats`.
"""

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from schemas.errors import CorpusError
from schemas.form import require_instance
from schemas.registry import Registry
from schemas.shown import quoted
from schemas.texts.compression import compressed_suffix

Record = dict[str, Any]
RECORD_BYTES = 64 << 20  # the longest record that is read: a file without line ends must not fill the memory


@dataclass(frozen=True)
class Source:
    """An open file of records, and what is wanted of it."""

    path: Path  # for messages
    stream: BinaryIO  # decompressed
    fields: Sequence[str]  # that will be asked for: a format that keeps columns apart may read these alone
    columns: Sequence[str] = ()  # of a table whose first line does not name them; without, the first line must
    optional: Collection[str] = ()  # of the fields: those that a file need not have
    nested: Collection[str] = ()  # of the fields: those that may hold lists and objects


class Format(ABC):
    """How one kind of file holds records."""

    name: str
    """The name by which the registry knows it."""
    suffixes: tuple[str, ...]
    """Ends of file names, in lower case, each with its dot; no two formats have one in common."""
    compressible: bool
    """Returns whether it is read from front to back, so that a compressed file can be read as it is."""

    @abstractmethod
    def read(self, source: Source) -> Iterator[tuple[int, Record]]:
        """Each record with its line, from 1 (the last line of a record that has several; a row of a binary table).

        Raises CorpusError naming file and line; OSError, EOFError, pyarrow's errors of a damaged file.
        """


def _require_usable(format_: Format) -> None:
    require_instance(format_, Format)
    for suffix in format_.suffixes:
        if len(suffix) < 2 or suffix[0] != "." or suffix != suffix.lower() or compressed_suffix(suffix):
            raise ValueError(
                f"its suffix {quoted(suffix)} is not the end of a file's name, as '.jsonl' is, in lower case"
            )


FORMATS: Registry[Format] = Registry(
    "record format",
    "schemas.texts.formats",
    "FORMAT",
    "stillroom.record_formats",
    _require_usable,
    distinct="suffixes",
)


def find_format(path: Path) -> Format | None:
    """The format of a file by its name; None for an unknown one. Raises CorpusError: a compression it cannot have."""
    packed = compressed_suffix(path.name)
    name = path.name.lower().removesuffix(packed)
    fitting = [format_ for format_ in FORMATS.values() if name.endswith(format_.suffixes)]
    # Of `.jsonl` and another's `.chat.jsonl`, the longer says more.
    found = max(fitting, key=lambda format_: max(len(s) for s in format_.suffixes if name.endswith(s)), default=None)
    if found is not None and packed and not found.compressible:
        raise CorpusError(f"{path}: a {found.name} file cannot be read through {packed}; unpack it")
    return found


def known_suffixes() -> str:
    """The endings of a record file's name, for messages."""
    return ", ".join(suffix for format_ in FORMATS.values() for suffix in format_.suffixes)
