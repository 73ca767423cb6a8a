"""What changes a student's tokens changes what they are found by, and nothing else does."""

import hashlib
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from schemas.cache.samples import CachedSample
from schemas.configs.training import StudentConfig
from tests.trainer.alignment.characters import BY_NAME, characters, reader_of
from tests.trainer.alignment.samples import ranges, sample, word_tokenizer
from tests.trainer.kept_texts.conversations import conversation_tokenizer, conversations
from trainer.alignment.student_text import StudentText, StudentTokenizer
from trainer.kept_texts.identity import MEANING, digest_of, identify

SAMPLE = sample("say: old cat", [(0, 4), (5, 8), (9, 12)], prompt_end=5)
ENDED = replace(SAMPLE, token_offsets=ranges([(0, 4), (5, 8), (9, 12), (12, 12)]))
CHAT = conversations()[0]


def student(**changes: Any) -> StudentConfig:
    return StudentConfig.model_validate({"model": "m", **changes})


def test_every_setting_that_changes_tokens_is_in_the_identity() -> None:
    words, zephyr = word_tokenizer(["a"], eos_token="</s>"), reader_of(BY_NAME["zephyr"])
    usual = identify(student(), words, "hash", None)
    others = [
        identify(student(max_tokens=9), words, "hash", None),
        identify(student(append_eos=False), words, "hash", None),
        identify(student(kind="encoder"), words, "hash", None),
        identify(student(), words, "other", None),
        identify(student(), characters(), "hash", None),  # without an end of sequence
        identify(student(), words, "hash", zephyr),
        identify(student(), words, "hash", reader_of(BY_NAME["chatml"])),
    ]
    assert all(found != usual for found in others)
    assert len({repr(found) for found in others}) == len(others)
    assert identify(student(model="other", keep_layers=[0]), words, "hash", None) == usual
    assert set(usual["libraries"]) == {"jinja2", "tokenizers", "transformers"} and usual["meaning"] == MEANING


@pytest.mark.parametrize(
    ("origin", "changed"),
    [
        (SAMPLE, replace(SAMPLE, text="say: old cow")),
        (SAMPLE, replace(SAMPLE, targets=ranges([(4, 12)]))),
        (SAMPLE, replace(SAMPLE, truncated=True)),
        (SAMPLE, ENDED),
        (CHAT, replace(CHAT, turns=CHAT.turns[1:])),
        (CHAT, replace(CHAT, structure='{"tools":[],"messages":{}}')),
    ],
)
def test_every_part_that_changes_tokens_is_in_the_digest(origin: CachedSample, changed: CachedSample) -> None:
    assert digest_of(changed) != digest_of(origin)
    assert all(0 <= half < 2**64 for half in digest_of(origin))
    assert digest_of(replace(origin, id="other", words=ranges([(0, 1)]))) == digest_of(origin)


def test_half_a_character_has_a_digest() -> None:
    assert digest_of(replace(SAMPLE, text="say: \ud83d cat")) != digest_of(SAMPLE)


def test_the_meaning_is_raised_with_what_texts_become() -> None:
    """If this fails, StudentTokenizer makes other tokens than before: raise MEANING, so that none of them is kept on,
    and put the new hash here."""
    words = word_tokenizer(["say:", "old", "cat"], eos_token="</s>")
    samples = [SAMPLE, ENDED, replace(ENDED, truncated=True), replace(SAMPLE, targets=ranges([(0, 8), (9, 12)]))]
    found = StudentTokenizer(words, 4, append_eos=True)(samples) + StudentTokenizer(words, 3, append_eos=True)(samples)
    found += conversation_tokenizer()(conversations())
    assert (MEANING, _hash_of(found)) == (1, "0a1ffbf177f55795")


def _hash_of(texts: list[StudentText]) -> str:
    whole = hashlib.sha256()
    for text in texts:
        same = np.zeros(0, bool) if text.same is None else text.same
        for part in (text.ids, text.offsets, text.target, same):
            whole.update(np.asarray(part, np.int64).tobytes())
        whole.update(f"{text.length} {text.cut} {text.same is None}".encode())
    return whole.hexdigest()[:16]
