"""CSV and TSV: quoting as the csv module of Python has it, names from the header or from the reader."""

import csv
import io
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import CorpusError
from schemas.texts.format import FORMATS, Record, Source

CELLS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)


def read(kind: str, content: bytes, columns: tuple[str, ...] = ()) -> list[tuple[int, Record]]:
    return list(FORMATS[kind].read(Source(Path(f"a.{kind}"), io.BytesIO(content), (), columns)))


@given(st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=4))
def test_what_python_writes_as_csv_is_read_back(rows: list[tuple[str, str]]) -> None:
    text = io.StringIO()
    csv.writer(text).writerows([("a", "b"), *rows])
    found = [record for _, record in read("csv", text.getvalue().encode())]
    assert found == [{"a": first, "b": second} for first, second in rows]


def test_a_record_has_the_number_of_its_last_line() -> None:
    content = b'a,b\n1,"two\nlines"\n\n3,4\n'
    assert read("csv", content) == [(3, {"a": "1", "b": "two\nlines"}), (5, {"a": "3", "b": "4"})]


def test_a_quotation_mark_of_a_tsv_is_a_character() -> None:
    assert read("tsv", b'a\tb\n"x\ty"\n') == [(2, {"a": '"x', "b": 'y"'})]


def test_names_stand_in_the_first_line_or_are_the_readers() -> None:
    given = ("a", "b")
    assert read("csv", b"b,c,a\n1,2,3\n", given) == [(2, {"b": "1", "c": "2", "a": "3"})]
    assert read("csv", b"1,2,3\n4,5,6\n", given) == [(1, {"a": "1", "b": "2"}), (2, {"a": "4", "b": "5"})]


@pytest.mark.parametrize(
    ("content", "columns", "said"),
    [
        (b"a,b\n1\n", (), r"^a\.csv:2: 1 fields, but the header names 2; is the line cut\?$"),
        (
            b"a,b\n1,2,3\n",
            (),
            r"^a\.csv:2: 3 fields, but the header names 2; a field that holds a comma stands in quotes$",
        ),
        (b"1\n", ("a", "b"), r"^a\.csv:1: 1 fields, but a line has a, b; is the line cut\?$"),
        (b"a,a\n1,2\n", (), r"^a\.csv:1: the header names 'a' twice \(.*a.*a.*\); rename one$"),
        (b'a,b\n1,"2"x\n', (), r"^a\.csv:2: not CSV: "),
        (b"a,b\n1,\xff\n", (), r"^a\.csv: not UTF-8, after line \d; convert the file$"),
    ],
)
def test_a_row_that_is_not_as_its_header_says_is_named(content: bytes, columns: tuple[str, ...], said: str) -> None:
    with pytest.raises(CorpusError, match=said):
        read("csv", content, columns)
