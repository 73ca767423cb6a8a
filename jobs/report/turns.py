"""A conversation shown turn by turn: who speaks, which part it is, what is learnt, and the template's own words."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from rich.table import Table
from rich.text import Text

from jobs.report.marks import Marks, mark
from schemas.cache.samples import Turn

TEMPLATE = -1  # of a character that no turn has
LINE_END = "\N{DOWNWARDS ARROW WITH CORNER LEFTWARDS}"  # of the template's; a content's is shown as one


def turn_of(length: int, turns: Sequence[Turn]) -> np.ndarray:
    """[C] of C characters: the number of the turn that each belongs to, or TEMPLATE."""
    found = np.full(length, TEMPLATE)
    for number, turn in enumerate(turns):
        found[turn.start : turn.end] = number
    return found


def turns_table(text: str, turns: Sequence[Turn], turn_C: np.ndarray, learnt_C: np.ndarray, marks: Marks) -> Table:
    """A row for each stretch of a text that is of one turn and learnt throughout, or not at all.

    Shapes: C characters of the text; `turn_C` says which of `turns` each is of, `learnt_C` whether it is learnt.
    """
    table = Table(box=None, pad_edge=False)
    for heading in ("message", "part", "learnt", "text"):
        table.add_column(heading, no_wrap=heading != "text", overflow="fold")
    changes = np.flatnonzero((np.diff(turn_C) != 0) | (np.diff(learnt_C.astype(int)) != 0)) + 1
    bounds = [0, *changes.tolist(), len(text)]
    for start, end in pairwise(bounds):
        turn = None if turn_C[start] == TEMPLATE else turns[int(turn_C[start])]
        who = "" if turn is None else f"{turn.message + 1} {turn.role}"
        part = "template" if turn is None else turn.part.replace("_", " ")
        shown = mark(text, learnt_C, marks, start, end)
        table.add_row(who, part, "yes" if learnt_C[start] else "", shown if turn else _on_one_line(shown))
    return table


def _on_one_line(shown: Text) -> Text:
    """With its line ends as signs, each of which is one character."""
    plain = shown.plain.replace("\n", LINE_END)
    return Text(plain, spans=shown.spans)
