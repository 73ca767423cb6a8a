"""What users have named is printed as it is: Rich would take brackets for markup and colons for emoji."""

import pytest
from rich.table import Table

from schemas.console import make_console

NAME = "q[bold] [/INST] :cat:"


def test_nothing_is_read_as_markup(capsys: pytest.CaptureFixture[str]) -> None:
    table = Table(NAME, title=NAME)
    table.add_row(NAME)
    console = make_console()
    console.print(NAME)
    console.print(table)
    console.rule(NAME)
    assert capsys.readouterr().out.count(NAME) == 5
