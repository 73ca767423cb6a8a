"""Records of files, one at a time, each with its place: the one reader of corpora, held-out texts and scored pairs.

Costs one record of memory, or some 64 MiB of rows of a binary table. JSON is read at about 80 MB/s on one core.
"""

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from schemas.errors import CorpusError
from schemas.storage.regular import open_regular
from schemas.texts.compression import DAMAGE, compressed_suffix, decompress
from schemas.texts.format import FORMATS, Format, Record, Source, find_format, known_suffixes


def read_records(
    file: Path,
    fields: Sequence[str] = (),
    columns: Sequence[str] = (),
    otherwise: Format | None = None,
    optional: Collection[str] = (),
    nested: Collection[str] = (),
) -> Iterator[tuple[int, Record]]:
    """Line (the last of a CSV record; a row of Parquet or Arrow) from 1, and record.

    `fields` are those that the caller will ask for: of these, a table need not have the `optional` ones, and `nested`
    ones may hold lists and objects, in which a table's nulls are absent keys. `columns` are those of a CSV or TSV file
    whose first line does not name them; without, the first line must. `otherwise` reads a file whose name says nothing.

    Raises CorpusError naming file and line: not a regular file, unreadable, not UTF-8, not JSON, not an object, a key
    or column that is given twice, a missing column, one of lists or objects that is not a nested field, a row that is
    not as its header says, a record above 64 MiB, a Parquet column that unpacks to more than a gigabyte and a hundred
    times its size.
    """
    format_ = find_format(file) or otherwise
    if format_ is None:
        raise CorpusError(f"{file}: not a kind of record file that is read here ({known_suffixes()})")
    try:
        with open_regular(file) as raw, decompress(raw, compressed_suffix(file.name)) as stream:
            yield from _read(format_, Source(file, stream, fields, columns, optional, nested))
    except OSError as error:
        raise CorpusError(f"cannot read {file}: {error.strerror or error}") from error
    except DAMAGE as error:
        raise CorpusError(f"cannot read {file}: {error}") from error


def _read(format_: Format, source: Source) -> Iterator[tuple[int, Record]]:
    if format_.name not in FORMATS:  # what the caller reads by
        yield from format_.read(source)
        return
    with FORMATS.using(format_.name, OSError, *DAMAGE):
        yield from format_.read(source)
