"""Texts of samples that are tokens alone."""

from pathlib import Path

import numpy as np
import pytest

from pipeline.importing.spelling import Unspelt, require_known, spell
from schemas.configs.extraction import TeacherConfig
from schemas.errors import CorpusError
from tests.tiny import KINDS, TEXTS, Kind, tiny_tokenizer

CONFIG = TeacherConfig(model="none", max_tokens=512)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "wordpiece"])  # which loses case and spaces
def test_every_text_is_found_again(tmp_path: Path, kind: Kind) -> None:
    tokenizer = tiny_tokenizer(tmp_path, kind)
    again = 0
    for text in TEXTS:
        ids = np.array(tokenizer(text)["input_ids"])
        try:
            found = spell(ids, None, tokenizer, CONFIG, cut=False)
        except Unspelt:  # unigram knows no letter beyond those of its texts, and loses doubled spaces
            assert kind == "unigram"
            continue
        again += 1
        assert found.token_ids.tolist() == ids.tolist() and not found.truncated
        assert found.targets.tolist() == [[found.token_offsets[found.token_offsets[:, 1] > 0][0, 0], len(found.text)]]
        assert found.text.strip() == text.strip() or kind == "unigram"
    assert again > len(TEXTS) // 2


def test_learnt_tokens_are_ranges_of_characters_and_a_cut_end_may_be_shortened(tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer(tmp_path, "bpe")
    text = "The old miller carried three silver coins"
    encoding = tokenizer(text, return_offsets_mapping=True)
    ids, offsets = np.array(encoding["input_ids"]), encoding["offset_mapping"]
    learnt = np.zeros(len(ids), bool)
    learnt[[0, 2, 3, -1]] = True
    found = spell(ids, learnt, tokenizer, CONFIG, cut=False)
    assert found.targets.tolist() == [[offsets[2][0], offsets[3][1]], list(offsets[-1])]
    split = next(
        n for n in range(len(ids) - 1, 2, -1) if tokenizer(text[: offsets[n][1]])["input_ids"] == ids[: n + 1].tolist()
    )
    odd = np.array([*ids[: split + 1], ids[3], 258])  # a byte that no text would have there
    with pytest.raises(Unspelt, match="at token"):
        spell(odd, None, tokenizer, CONFIG, cut=False)
    found = spell(odd, None, tokenizer, CONFIG, cut=True)
    assert found.truncated and len(odd) - 8 < len(found.token_ids) < len(odd)
    with pytest.raises(Unspelt, match="the tokenizer puts '<s>' around every text, and these tokens lack it"):
        spell(ids[1:], None, tokenizer, CONFIG, cut=True)


def test_tokens_of_another_vocabulary_are_named() -> None:
    require_known(np.array([0, 7]), 8, "x:1")
    for wrong in (8, -1):
        with pytest.raises(CorpusError, match=f"x:1: token {wrong} is none of the teacher's 8"):
            require_known(np.array([0, wrong]), 8, "x:1")
