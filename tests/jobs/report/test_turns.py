"""A conversation shown turn by turn."""

import numpy as np
from rich.text import Text

from jobs.report.marks import learnt_characters
from jobs.report.turns import turn_of, turns_table
from schemas.cache.samples import Turn

TEXT = "<u>\nhi<a>\nok!</a>"
TURNS = (Turn(0, "user", "content", 4, 6), Turn(1, "assistant", "content", 10, 13), Turn(1, "assistant", "end", 13, 17))


def cells(targets: list[list[int]], marks: dict[int, tuple[str, str]] | None = None) -> list[tuple[str, ...]]:
    learnt = learnt_characters(len(TEXT), np.array(targets, np.int32).reshape(-1, 2))
    table = turns_table(TEXT, TURNS, turn_of(len(TEXT), TURNS), learnt, marks or {})
    columns = [
        [cell.plain if isinstance(cell, Text) else str(cell) for cell in column.cells] for column in table.columns
    ]
    return list(zip(*columns, strict=True))


def test_each_stretch_has_a_row_that_says_whose_it_is() -> None:
    assert cells([[10, 17]]) == [
        ("", "template", "", "<u>↵"),
        ("1 user", "content", "", "hi"),
        ("", "template", "", "<a>↵"),
        ("2 assistant", "content", "yes", "ok!"),
        ("2 assistant", "end", "yes", "</a>"),
    ]


def test_what_of_a_template_is_learnt_has_a_row_of_its_own() -> None:
    rows = cells([[9, 12]])
    assert rows[2:] == [
        ("", "template", "", "<a>"),
        ("", "template", "yes", "↵"),
        ("2 assistant", "content", "yes", "ok"),
        ("2 assistant", "content", "", "!"),
        ("2 assistant", "end", "", "</a>"),
    ]


def test_marks_stand_in_the_row_of_what_they_are_about() -> None:
    marks = {4: ("", "["), 6: ("]", ""), 10: ("", "{"), 17: ("}", "")}
    assert [row[3] for row in cells([[10, 17]], marks)] == ["<u>↵", "[hi]", "<a>↵", "{ok!", "</a>}"]
