"""A special token that takes white space along ends where its spelling does, on both sides."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import AddedToken
from transformers import PreTrainedTokenizerFast

from schemas.cache.reader import Cache
from schemas.models.spelt_tokens import greedy_tokens, own_characters
from tests.caches import build_cache, extraction
from tests.chats import SAYINGS, family, talk, write_chats
from tests.tiny import tiny_llama, tiny_tokenizer
from trainer.alignment.student_text import StudentTokenizer
from trainer.alignment.target_tokens import teacher_target


def greedy_tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    """Phi-3's template and special tokens, which take the white space behind them along, as its own do."""
    tokenizer, phi3 = tiny_tokenizer(folder, "bytelevel"), family("phi3")
    tokenizer.add_special_tokens(
        {"additional_special_tokens": [AddedToken(token, rstrip=True, special=True) for token in phi3.special]}
    )
    tokenizer.chat_template = phi3.template
    tokenizer.save_pretrained(folder)
    return tokenizer


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    folder = tmp_path_factory.mktemp("greedy")
    tiny_llama(folder / "teacher", greedy_tokenizer(folder / "teacher"))
    chats = write_chats(folder / "chats.jsonl")
    corpus: dict[str, Any] = {"files": [str(chats)], "id": "id", "conversations": {}, "prompt": None, "response": None}
    return Cache(build_cache(extraction(folder / "cache", folder / "teacher", chats, corpus=corpus)))


def test_only_white_space_beside_it_is_taken_off() -> None:
    text = "a<|end|>\n \nb <m>\n"
    ids, offsets = np.array([5, 7, 5, 8, 7]), np.array([[0, 1], [1, 11], [11, 12], [12, 17], [10, 11]])
    found = own_characters(text, ids, offsets, frozenset([7, 8]))
    assert found.tolist() == [[0, 1], [1, 8], [11, 12], [13, 16], [10, 11]]
    assert own_characters(text, ids, offsets, frozenset()).tolist() == offsets.tolist()


def test_every_end_of_turn_is_a_target_of_teacher_and_student(cache: Cache) -> None:
    tokenizer = PreTrainedTokenizerFast.from_pretrained(cache.path / "teacher")
    (end,) = tokenizer.encode("<|end|>", add_special_tokens=False)
    assert end in greedy_tokens(tokenizer)
    for position, sayings in enumerate(SAYINGS):
        sample = cache.sample(position)
        (text,) = StudentTokenizer(tokenizer, 512, True)([sample])
        answers = sum(message["role"] == "assistant" for message in talk(*sayings))
        assert sum(sample.token_ids[teacher_target(sample)] == end) == answers == sum(text.ids[text.target] == end)
        assert text.offsets.tolist() == sample.token_offsets.tolist()
        ends = [(turn.start, turn.end) for turn in sample.turns if turn.part == "end"]
        assert [(a, b) for a, b in sample.token_offsets[teacher_target(sample) & (sample.token_ids == end)]] == ends
