"""Records of corpus files, one at a time, each with its place: JSON lines (plain or gzip), CSV and Parquet.

Costs one line, or one Parquet batch, of memory. JSON is read at about 100 MB/s on one core.
"""

import csv
import gzip
import json
import zlib
from collections.abc import Iterator
from glob import glob, has_magic
from pathlib import Path
from typing import Any, BinaryIO, cast

import pyarrow as pa
import pyarrow.parquet as pq

from schemas.errors import CorpusError
from schemas.texts.suffixes import JSON_SUFFIXES

SUFFIXES = (*JSON_SUFFIXES, *(f"{suffix}.gz" for suffix in JSON_SUFFIXES), ".csv", ".parquet")
PARQUET_BATCH = 1024  # rows decoded at a time

Record = dict[str, Any]


def find_files(patterns: list[str]) -> list[Path]:
    """The files that `patterns` name, in their order; a folder or glob gives its files sorted, and no file comes twice.

    Raises CorpusError: nothing matches, a name that cannot be one, or a file of an unknown kind is named.
    """
    files: dict[Path, None] = {}
    for pattern in patterns:
        try:
            found = _matching(pattern)
        except (OSError, RuntimeError) as error:  # the latter for the home of a user who is not there
            raise CorpusError(f"cannot look for corpus files {pattern}: {error}") from error
        for file in found:
            if not file.name.endswith(SUFFIXES):
                raise CorpusError(f"{file}: not a kind of corpus file that is read here ({', '.join(SUFFIXES)})")
            files[file] = None
    return list(files)


def _matching(pattern: str) -> list[Path]:
    path = Path(pattern).expanduser()
    if path.is_dir():
        found = sorted(p for p in path.rglob("*") if p.is_file() and p.name.endswith(SUFFIXES))
        if not found:
            raise CorpusError(f"the folder {path} holds no corpus file ({', '.join(SUFFIXES)})")
    elif path.exists():  # before globbing: a file's own name may hold brackets
        found = [path]
    elif has_magic(str(path)):
        found = sorted(p for p in map(Path, glob(str(path), recursive=True)) if p.is_file())
        if not found:
            raise CorpusError(f"no file matches {pattern}")
    else:
        raise CorpusError(f"there is no corpus file {path}")
    return found


def read_records(file: Path, fields: list[str]) -> Iterator[tuple[int, Record]]:
    """Line (the last of a CSV record; a row of Parquet) from 1, and record. Parquet decodes the columns `fields` only.

    Raises CorpusError naming file and line: unreadable, not UTF-8, not JSON, not an object, a missing column, a CSV
    record that is not as its header says.
    """
    try:
        if file.suffix == ".parquet":
            yield from _read_parquet(file, fields)
        elif file.suffix == ".csv":
            yield from _read_csv(file)
        else:
            yield from _read_lines(file)
    except (OSError, EOFError, zlib.error, pa.ArrowException) as error:
        raise CorpusError(f"cannot read {file}: {error}") from error


def _read_lines(file: Path) -> Iterator[tuple[int, Record]]:
    with cast(BinaryIO, gzip.open(file) if file.suffix == ".gz" else file.open("rb", buffering=1 << 20)) as lines:
        for number, line in enumerate(lines, start=1):
            if number == 1:
                line = line.removeprefix(b"\xef\xbb\xbf")
            if line.isspace() or not line:
                continue
            try:
                record = json.loads(line.decode("utf-8"))
            except UnicodeDecodeError as error:
                raise CorpusError(f"{file}:{number}: byte {error.start + 1} is not UTF-8; convert the file") from error
            except (ValueError, RecursionError) as error:
                raise CorpusError(f"{file}:{number}: not JSON: {error}{_hint(line)}") from error
            if not isinstance(record, dict):
                kind = type(record).__name__
                raise CorpusError(f"{file}:{number}: a record is a JSON object, this is a {kind}{_hint(line)}")
            yield number, record


def _hint(line: bytes) -> str:
    if line.lstrip()[:1] == b"[":
        return "; one object a line is wanted, and this looks like one long array: `jq -c '.[]'` turns it into lines"
    if line.strip() == b"{":
        return "; one object a line is wanted, and this one spans several: `jq -c .` puts it on one"
    return ""


def _read_csv(file: Path) -> Iterator[tuple[int, Record]]:
    """Fields are strings, quoted as spreadsheets do; the first line names them, the name may be empty."""
    with file.open(encoding="utf-8-sig", newline="") as lines:
        reader = csv.reader(lines, strict=True)
        try:
            names = next(reader, [])
            if len(set(names)) < len(names):
                raise CorpusError(f"{file}:1: the header names a column twice ({', '.join(names)}); rename one")
            for values in reader:
                if not values:
                    continue
                if len(values) != len(names):
                    raise CorpusError(
                        f"{file}:{reader.line_num}: {len(values)} fields, but the header names {len(names)}; "
                        "a field that holds a comma stands in quotes"
                    )
                yield reader.line_num, dict(zip(names, values, strict=True))
        except csv.Error as error:
            raise CorpusError(f"{file}:{reader.line_num}: not CSV: {error}") from error
        except UnicodeDecodeError as error:
            raise CorpusError(f"{file}: not UTF-8, after line {reader.line_num}; convert the file") from error


def _read_parquet(file: Path, fields: list[str]) -> Iterator[tuple[int, Record]]:
    with pq.ParquetFile(file) as table:
        columns = table.schema_arrow.names
        missing = [field for field in fields if field not in columns]
        if missing:
            raise CorpusError(f"{file}: there is no column {missing[0]!r} (there are {', '.join(columns)})")
        number = 0
        for batch in table.iter_batches(batch_size=PARQUET_BATCH, columns=fields):
            try:
                records = batch.to_pylist()
            except ValueError as error:
                raise CorpusError(_find_unreadable(file, number, batch) or f"cannot read {file}: {error}") from error
            for record in records:
                number += 1
                yield number, record


def _find_unreadable(file: Path, before: int, batch: pa.RecordBatch) -> str | None:
    """The place of the first value that is no Python value; Parquet does not check that its strings are UTF-8."""
    for row in range(batch.num_rows):
        for field, column in zip(batch.schema.names, batch.columns, strict=True):
            try:
                column[row].as_py()
            except ValueError as error:
                return f"{file}:{before + row + 1}: field {field!r} cannot be read: {error}; convert the file"
    return None
