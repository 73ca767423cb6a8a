"""Windows over token ids, beside the rule in words: each token once, with half a window of context or all there is."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import ModelError
from tests.tiny import tiny_llama, tiny_tokenizer
from trainer.evaluation.windows import check_length, cut


@given(length=st.integers(0, 80), first=st.integers(0, 5), prefix=st.integers(0, 2), size=st.integers(2, 20))
def test_every_token_is_scored_once_with_half_a_window_of_context(
    length: int, first: int, prefix: int, size: int
) -> None:
    opening, body = [-1] * prefix, list(range(length))
    windows = list(cut(opening, body, first, size + prefix))
    assert [token for window in windows for token in window.ids[window.start :]] == body[first:]
    for window in windows:
        assert window.ids[:prefix] == opening and len(window.ids) <= size + prefix
        begin = window.ids[prefix]
        assert window.ids[prefix:] == body[begin : begin + size]
        assert window.start - prefix >= size // 2 or begin == 0


def test_a_short_text_is_one_window() -> None:
    assert [(window.ids, window.start) for window in cut([7], [1, 2, 3], 0, 8)] == [([7, 1, 2, 3], 1)]
    assert list(cut([7], [1], 1, 8)) == []


def test_too_few_tokens_for_a_window_are_refused(tmp_path: Path) -> None:
    model = tiny_llama(tmp_path, tiny_tokenizer(tmp_path))
    with pytest.raises(ModelError, match="max_tokens is 3; a window needs at least 4"):
        check_length(model, 3)
