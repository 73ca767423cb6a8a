"""Lines with their numbers, a mark at the beginning taken off, and bytes that are not UTF-8 named."""

import io
from pathlib import Path

import pytest

from schemas.errors import CorpusError
from schemas.texts.format import RECORD_BYTES, Source
from schemas.texts.lines import PlainText, decode, read_lines

MARK = b"\xef\xbb\xbf"


def source(content: bytes, *fields: str) -> Source:
    return Source(Path("a.txt"), io.BytesIO(content), fields)


def test_every_line_has_its_number_and_its_end() -> None:
    assert list(read_lines(source(b""))) == []
    assert list(read_lines(source(b"a\r\n\n b"))) == [(1, b"a\r\n"), (2, b"\n"), (3, b" b")]


def test_only_the_first_mark_is_taken_off() -> None:
    assert list(read_lines(source(MARK + MARK + b"a\n" + MARK + b"b"))) == [(1, MARK + b"a\n"), (2, MARK + b"b")]


def test_the_longest_line_is_read_and_a_longer_one_refused() -> None:
    longest = b"x" * RECORD_BYTES
    assert [len(line) for _, line in read_lines(source(b"a\n" + longest))] == [2, RECORD_BYTES]
    with pytest.raises(CorpusError, match=r"^a\.txt:2: a line of more than 64 MiB; is this a text\?$"):
        list(read_lines(source(b"a\n" + longest + b"x")))


def test_the_byte_that_is_no_utf8_is_named() -> None:
    assert decode("é漢".encode(), Path("a"), 1) == "é漢"
    with pytest.raises(CorpusError, match=r"^a\.txt:7: byte 4 is not UTF-8; convert the file$"):
        decode("aé".encode() + b"\xff", Path("a.txt"), 7)


def test_a_plain_line_is_a_record_of_the_field_that_is_asked_for() -> None:
    records = list(PlainText().read(source(b"one \r\n \t\n\n\xe2\x80\x83\n two", "story")))
    assert records == [(1, {"story": "one "}), (5, {"story": " two"})]
