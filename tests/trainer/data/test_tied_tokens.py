"""What ties two sides' tokens, over texts whose spans are counted by hand."""

from typing import Any, cast

import numpy as np
import pytest

from schemas.cache.samples import CachedSample
from schemas.cache.targets import response_targets
from schemas.cache.token_rows import every_row
from schemas.errors import PairingError
from trainer.alignment.student_text import StudentText
from trainer.data.request import Drawn
from trainer.data.tied_tokens import SameTokenPositions, Spans

NONE = np.empty((0, 2), np.int32)


def offsets(*ends: int) -> np.ndarray:
    return np.array(list(zip((0, *ends[:-1]), ends, strict=True)), np.int32).reshape(-1, 2)


def sample(name: str, ends: tuple[int, ...], words: list[tuple[int, int]] | None = None) -> CachedSample:
    spans = NONE if words is None else np.array(words, np.int32)
    ids = np.arange(len(ends), dtype=np.int32) + 10
    learnt, rows = response_targets(0, ends[-1]), every_row(len(ends))
    return CachedSample(name, "x" * ends[-1], learnt, False, ids, offsets(*ends), rows, spans, NONE, NONE)


def text(*ends: int, ids: list[int] | None = None) -> StudentText:
    tokens = np.array(ids if ids is not None else range(10, 10 + len(ends)), np.int64)
    return StudentText(tokens, offsets(*ends), np.ones(len(ends), bool), len(ends), False)


def drawn(samples: list[CachedSample], texts: list[StudentText]) -> Drawn:
    return Drawn(cast(Any, None), range(len(samples)), samples, texts)


def test_aligned_spans_end_where_both_sides_have_read_the_same() -> None:
    """Ends 2 3 6 8 beside 3 5 6 8: spans end at 3, 6 and 8. Ends 4 beside 1 4: one span."""
    found = Spans("aligned", "text").collate(
        drawn([sample("a", (2, 3, 6, 8)), sample("b", (4,))], [text(3, 5, 6, 8), text(1, 4)])
    )
    assert found.teacher_BT.tolist() == [[0, 0, 1, 2], [0, -1, -1, -1]]
    assert found.student_BS.tolist() == [[0, 1, 1, 2], [0, 0, -1, -1]]
    assert found.mask_BK.tolist() == [[True, True, True], [True, False, False]]


def test_words_hold_the_tokens_that_end_in_them() -> None:
    one = sample("a", (2, 3, 6, 8), words=[(0, 3), (4, 8)])
    found = Spans("word", "text").collate(drawn([one], [text(1, 3, 8)]))
    assert found.teacher_BT.tolist() == [[0, 0, 1, 1]] and found.student_BS.tolist() == [[0, 0, 1]]


def test_which_tokens_a_span_has_is_told_for_each_side_and_once() -> None:
    """Tokens by span; behind them, where each span's begin, and those in none."""
    one = sample("a", (2, 3, 6, 8), words=[(0, 3), (4, 8)])
    found = Spans("word", "text").collate(drawn([one], [text(1, 3, 8)]))
    assert found.of_teacher.first_R.tolist() == [0, 2, 4] and found.of_student.first_R.tolist() == [0, 2, 3]
    assert found.of_student.span_BX.tolist() == [[0, 0, 1]] and found.of_student.inside_BX.all()
    assert found.of_teacher is found.of_teacher and found.of_student is found.of_student


def test_without_a_span_there_is_still_a_column() -> None:
    found = Spans("word", "text").collate(drawn([sample("a", (2, 3))], [text(3)]))
    assert found.mask_BK.tolist() == [[False]]
    assert (found.teacher_BT == -1).all() and (found.student_BS == -1).all()


def test_the_same_tokens_are_paired_in_place() -> None:
    """The student may see less, or end with a token of its own."""
    samples = [sample("a", (1, 2, 3)), sample("b", (1, 2))]
    texts = [text(1, 2), text(1, 2, 2, ids=[10, 11, 2])]
    assert SameTokenPositions().collate(drawn(samples, texts)).tolist() == [[0, 1, -1], [0, 1, -1]]


def test_other_tokens_are_refused_with_their_sample() -> None:
    with pytest.raises(PairingError, match=r"^sample 'b': "):
        SameTokenPositions().collate(
            drawn([sample("a", (1, 2)), sample("b", (1, 2))], [text(1, 2), text(1, 2, ids=[10, 99])])
        )
