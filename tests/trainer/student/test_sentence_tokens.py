"""A sentence encoder's tokens: what is cut keeps the special tokens around it."""

from pathlib import Path

import pytest

from tests.tiny import tiny_tokenizer
from tests.trainer.alignment.samples import sample
from trainer.student.sentence_tokens import SentenceTexts, sentence_tokens

TEXTS = ["The old miller carried a bright red apple.", "a"]


@pytest.mark.parametrize("most", [4, 8, 64])
def test_texts_are_cut_between_their_special_tokens(tmp_path: Path, most: int) -> None:
    tokenizer = tiny_tokenizer(tmp_path, "wordpiece")
    found = sentence_tokens(tokenizer, TEXTS, most)
    for text, ids in zip(TEXTS, found, strict=True):
        inner = tokenizer(text, add_special_tokens=False)["input_ids"][: most - 2]
        assert ids == [tokenizer.cls_token_id, *inner, tokenizer.sep_token_id]
    texts = SentenceTexts(tokenizer, most)([sample(text, []) for text in TEXTS])
    assert [text.ids.tolist() for text in texts] == found
    for made, ids in zip(texts, found, strict=True):
        assert made.length == len(ids) == len(made.offsets) and made.cut is (len(ids) == most)
        assert not made.target.any() and not made.offsets.any()
