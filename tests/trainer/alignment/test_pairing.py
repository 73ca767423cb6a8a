"""Tokens of two sides with one tokenizer, paired one by one, against the definitions written as plain loops."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import PairingError
from trainer.alignment.spans import pair_contents, pair_tokens


def test_pairs_are_the_common_prefix() -> None:
    assert pair_tokens(np.array([5, 6, 7], np.int32), np.array([5, 6])).tolist() == [0, 1]
    assert pair_tokens(np.array([5, 6], np.int32), np.array([5, 6, 7, 8])).tolist() == [0, 1, -1, -1]
    assert pair_tokens(np.array([], np.int32), np.array([5])).tolist() == [-1]
    with pytest.raises(PairingError) as refused:
        pair_tokens(np.array([5, 6, 7, 7], np.int32), np.array([5, 9, 7, 8]))
    assert str(refused.value) == (
        "token 1 is 6 in the cache and 9 in the student's tokenizer: token pairs need one tokenizer with the same "
        "special tokens on both sides; use a loss over spans instead"
    )


def pair_by_dictionary(
    teacher: list[tuple[int, int, int]], student: list[tuple[int, int, int]], same: list[bool]
) -> list[int]:
    """`pair_contents` as its docstring says it, over (start, end, id)."""

    def name(tokens: list[tuple[int, int, int]]) -> list[tuple[int, int, int, int] | None]:
        seen, names = Counter[tuple[int, int]](), list[tuple[int, int, int, int] | None]()
        for start, end, token in tokens:
            names.append((start, end, seen[start, end], token) if start < end else None)
            seen[start, end] += 1
        return names

    places = {key: place for place, key in enumerate(name(teacher)) if key is not None}
    pairs = [
        -1 if key is None or not is_same else places.get(key, -1)
        for key, is_same in zip(name(student), same, strict=True)
    ]
    following = [*pairs, -1][1:]
    return [pair if pair >= 0 and after == pair + 1 else -1 for pair, after in zip(pairs, following, strict=True)]


tokens = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 2), st.sampled_from([0, 1, 2**31 - 1])), max_size=12)


@given(kept=tokens, before=tokens, after=tokens, data=st.data())
def test_contents_are_paired_as_a_dictionary_would(
    kept: list[tuple[int, int, int]],
    before: list[tuple[int, int, int]],
    after: list[tuple[int, int, int]],
    data: st.DataObject,
) -> None:
    """Tokens that both sides have, some of them several to one character, between ones of each side alone."""
    teacher, student = (
        [(start, start + length, token) for start, length, token in tokens] for tokens in (kept + after, before + kept)
    )
    same = data.draw(st.lists(st.booleans(), min_size=len(student), max_size=len(student)))
    (teacher_2, teacher_ids), (student_2, student_ids) = (
        (np.array([token[:2] for token in side], np.int32).reshape(-1, 2), np.array([token[2] for token in side], int))
        for side in (teacher, student)
    )
    found = pair_contents(teacher_ids.astype(np.int32), teacher_2, student_ids, student_2, np.array(same, bool))
    assert found.dtype == np.int64 and found.tolist() == pair_by_dictionary(teacher, student, same)
