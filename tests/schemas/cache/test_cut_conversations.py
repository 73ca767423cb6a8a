"""Conversations that the teacher's limit cuts, in blocks of reasoning and tool calls too: sound, and still read."""

from pathlib import Path
from typing import Any

import pytest

from jobs.verify import verify_cache
from schemas.cache.reader import Cache
from schemas.models.chat_template import find_template, special_spellings
from schemas.models.teacher_tokenizer import load_teacher_tokenizer
from tests.caches import build_cache
from tests.chats import chat_extraction, chat_model, write_chats
from trainer.alignment.student_conversation import ConversationReader
from trainer.alignment.student_text import StudentTokenizer

CALL = {"type": "function", "function": {"name": "look", "arguments": {"where": "river"}}}
TALKS: list[list[dict[str, Any]]] = [
    [
        {"role": "user", "content": "Why did she go home?"},
        {"role": "assistant", "content": "<think>\nThe rain began.\n</think>\n\nBecause of the rain."},
        {"role": "user", "content": "Alone?"},
        {"role": "assistant", "content": "<think>\nNobody else came.\n</think>\n\nYes, alone."},
    ],
    [
        {"role": "user", "content": "Where is it?"},
        {"role": "assistant", "content": "I look.", "tool_calls": [CALL]},
        {"role": "tool", "content": "near the river"},
        {"role": "assistant", "content": "Near the river."},
    ],
]


@pytest.mark.parametrize("most", range(20, 80, 6))
@pytest.mark.parametrize("family", ["chatml", "qwen3"])
def test_a_conversation_cut_anywhere_is_sound_and_read_in_another_template(
    tmp_path: Path, family: str, most: int
) -> None:
    model, chats = chat_model(tmp_path / "teacher", family), write_chats(tmp_path / "chats.jsonl", *TALKS)
    config = chat_extraction(tmp_path / "cache", model, chats)
    config = config.model_copy(update={"teacher": config.teacher.model_copy(update={"max_tokens": most})})
    cache = build_cache(config)
    verify_cache(cache)
    opened = Cache(cache)
    samples = [opened.sample(position) for position in range(len(opened))]
    assert any(sample.truncated for sample in samples)
    tokenizer = load_teacher_tokenizer(cache, opened.manifest)
    reader = ConversationReader(find_template(tokenizer, "plain", {}), special_spellings(tokenizer))
    for sample, text in zip(samples, StudentTokenizer(tokenizer, 512, False, reader)(samples), strict=True):
        places = text.offsets[text.offsets[:, 0] < text.offsets[:, 1]]
        assert places[:, 1].max(initial=0) <= len(sample.text)
        assert not text.target.any() or len(sample.targets)
