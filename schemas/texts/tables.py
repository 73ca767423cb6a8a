"""Tables as text, CSV and TSV: rows of cells, named by the first line or by the reader."""

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

from schemas.errors import CorpusError
from schemas.shown import listed, quoted
from schemas.texts.format import RECORD_BYTES, Format, Record, Source
from schemas.texts.repeated import repeated

_OPEN_QUOTE = f"; a field has {RECORD_BYTES >> 20} MiB at most: is a quotation mark left open?"


class TextTable(Format):
    """CSV and TSV differ in what stands between two cells, and in whether cells may be quoted."""

    compressible = True

    def __init__(self, name: str, suffixes: tuple[str, ...], more_cells: str, **dialect: Any):
        """`more_cells` says what is wrong with a row that has more cells than the header."""
        self.name, self.suffixes, self._more_cells, self._dialect = name, suffixes, more_cells, dialect

    def read(self, source: Source) -> Iterator[tuple[int, Record]]:
        """See `Format.read`. Every value is a string."""
        names: list[str] | None = None
        for line, cells in self._rows(source):
            if names is None:
                names, named = _names(source, line, cells)
                if named:
                    continue
            yield line, self._record(source, line, cells, names, named)

    def _record(self, source: Source, line: int, cells: list[str], names: list[str], named: bool) -> Record:
        if len(cells) < len(names) or (named and len(cells) > len(names)):
            expected = f"the header names {len(names)}" if named else f"a line has {', '.join(names)}"
            why = self._more_cells if len(cells) > len(names) else "is the line cut?"
            raise CorpusError(f"{source.path}:{line}: {len(cells)} fields, but {expected}; {why}")
        return dict(zip(names, cells, strict=False))

    def _rows(self, source: Source) -> Iterator[tuple[int, list[str]]]:
        csv.field_size_limit(RECORD_BYTES)  # of this process: the default of 131,072 refuses long texts
        with io.TextIOWrapper(cast(Any, source.stream), encoding="utf-8-sig", newline="") as text:
            reader = csv.reader(_lines(text, source.path), strict=True, **self._dialect)
            try:
                for cells in reader:
                    if cells:
                        yield reader.line_num, cells
            except csv.Error as error:
                why = f"{error}{_OPEN_QUOTE if 'limit' in str(error) else ''}"
                raise CorpusError(f"{source.path}:{reader.line_num}: not {self.name.upper()}: {why}") from error
            except UnicodeDecodeError as error:
                place = f"{source.path}: not UTF-8, after line {reader.line_num}"
                raise CorpusError(f"{place}; convert the file") from error


def _lines(text: io.TextIOWrapper, path: Path) -> Iterator[str]:
    number = 0
    while line := text.readline(RECORD_BYTES):
        number += 1
        if len(line) == RECORD_BYTES:
            raise CorpusError(f"{path}:{number}: a line of more than {RECORD_BYTES >> 20} MiB; is this a table?")
        yield line


def _names(source: Source, line: int, cells: list[str]) -> tuple[list[str], bool]:
    """The names of the columns, and whether they stand in the first line."""
    if source.columns and not set(source.columns) <= set(cells):
        return list(source.columns), False
    twice = repeated(cells)
    if twice is not None:
        columns = listed(cells)
        raise CorpusError(f"{source.path}:{line}: the header names {quoted(twice)} twice ({columns}); rename one")
    return cells, True
