"""What users have named is printed as it is: Rich would take brackets for markup and colons for emoji."""

import pytest
from rich.table import Table
from rich.text import Text

from schemas.console import make_console, say

NAME = "q[bold] [/INST] :cat:"


def test_nothing_is_read_as_markup(capsys: pytest.CaptureFixture[str]) -> None:
    table = Table(NAME, title=NAME)
    table.add_row(NAME)
    console = make_console()
    console.print(NAME)
    console.print(table)
    console.rule(NAME)
    assert capsys.readouterr().out.count(NAME) == 5


def test_nothing_is_obeyed(capsys: pytest.CaptureFixture[str]) -> None:
    name = "a\x1b[2J\u202eb"
    table = Table(name)
    table.add_row(name)
    console = make_console()
    console.print(table)
    console.print(name, Text(name))
    say(name)
    said = capsys.readouterr().out
    assert said.count(r"a\x1b[2J\u202eb") == 5 and "\x1b" not in said


def test_a_line_of_a_result_is_not_wrapped(capsys: pytest.CaptureFixture[str]) -> None:
    say("word " * 100)
    assert capsys.readouterr().out == "word " * 100 + "\n"


@pytest.mark.parametrize(("columns", "width"), [("0", 40), ("1", 40), ("100", 100)])
def test_a_table_keeps_its_content_in_no_width(
    columns: str, width: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    table = Table("run", "bits/byte", box=None)
    table.add_row("ce+mta", "0.3776")
    console = make_console()
    console.print(table)
    assert console.width == width
    assert capsys.readouterr().out.split() == ["run", "bits/byte", "ce+mta", "0.3776"]
