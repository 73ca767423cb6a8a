"""Lines of a stream, none above the bound of a record; and plain text as records: every line is a text."""

from collections.abc import Iterator
from pathlib import Path

from schemas.errors import CorpusError
from schemas.texts.format import RECORD_BYTES, Format, Record, Source

BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def read_lines(source: Source) -> Iterator[tuple[int, bytes]]:
    """Number, from 1, and bytes of every line, without a byte-order mark. Raises CorpusError: one above 64 MiB."""
    number = 0
    while line := source.stream.readline(RECORD_BYTES + 1):
        number += 1
        if len(line) > RECORD_BYTES:
            raise CorpusError(f"{source.path}:{number}: a line of more than {RECORD_BYTES >> 20} MiB; is this a text?")
        yield number, line.removeprefix(BYTE_ORDER_MARK) if number == 1 else line


def decode(line: bytes, path: Path, number: int) -> str:
    """Raises CorpusError naming the byte that is not UTF-8."""
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise CorpusError(f"{path}:{number}: byte {error.start + 1} is not UTF-8; convert the file") from error


class PlainText(Format):
    """Every line of a file that is not blank is a record with one field, whose name is the one that is asked for."""

    name, suffixes, compressible = "plain_text", (), True

    def read(self, source: Source) -> Iterator[tuple[int, Record]]:
        """See `Format.read`."""
        for number, line in read_lines(source):
            text = decode(line, source.path, number).rstrip("\r\n")
            if text.strip():
                yield number, dict.fromkeys(source.fields, text)
