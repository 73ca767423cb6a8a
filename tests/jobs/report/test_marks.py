"""A sample's text with marks in it."""

import numpy as np
from rich.text import Text

from jobs.report.marks import learnt_characters, mark

TEXT = "ask: [b]"


def dim(found: Text) -> str:
    return "".join(found.plain[span.start : span.end] for span in found.spans if span.style == "dim")


def test_marks_stand_at_their_places_and_what_is_not_learnt_is_dim() -> None:
    learnt = learnt_characters(8, np.array([[4, 8]], np.int32))
    found = mark(TEXT, learnt, {0: ("", "<"), 4: ("|", ""), 8: (">", "")})
    assert found.plain == "<ask:| [b]>"
    assert dim(found) == "ask:"
    learnt = learnt_characters(8, np.array([[0, 2], [5, 7]], np.int32))
    assert dim(mark(TEXT, learnt, {})) == "k: ]"


def test_of_a_text_in_pieces_each_mark_is_shown_once_what_closes_before_and_what_opens_after() -> None:
    learnt = np.ones(8, bool)
    marks = {0: ("", "("), 4: (")", "["), 8: ("]", "")}
    pieces = [mark(TEXT, learnt, marks, start, end).plain for start, end in ((0, 4), (4, 8))]
    assert pieces == ["(ask:)", "[ [b]]"]
