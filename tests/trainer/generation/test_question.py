"""What a student is asked for by a cached conversation, beside what transformers renders."""

from pathlib import Path
from typing import Any

import pytest

from schemas.cache.reader import Cache
from schemas.errors import TokenizerError
from schemas.models.chat_template import find_template, special_spellings
from tests.caches import build_cache
from tests.chats import SAYINGS, chat_cache, chat_extraction, chat_model, chat_tokenizer, talk, write_chats
from tests.corpora import write_lines
from trainer.alignment.student_conversation import ConversationReader
from trainer.generation.question import ask_by_text, ask_in_conversation


def reader(tokenizer: Any, named: str | None = None) -> ConversationReader:
    return ConversationReader(find_template(tokenizer, named, {}, plain=True), special_spellings(tokenizer))


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    return Cache(chat_cache(tmp_path_factory.mktemp("question")))


@pytest.mark.parametrize("name", ["phi3", "gemma3", "llama3"])
def test_a_conversation_is_asked_in_the_students_own_template(cache: Cache, tmp_path: Path, name: str) -> None:
    tokenizer = chat_tokenizer(tmp_path, name)
    for number, sayings in enumerate(SAYINGS):
        before = talk(*sayings[:-1])
        question = ask_in_conversation(cache.sample(cache.position(f"c{number}")), reader(tokenizer))
        assert question is not None and question.id == f"c{number}"
        assert question.text == tokenizer.apply_chat_template(before, tokenize=False, add_generation_prompt=True)
        answer = {"role": "assistant", "content": "An answer."}
        assert question.answered("An answer.") == {"id": f"c{number}", "messages": [*before, answer]}


def test_without_a_template_the_contents_stand_alone(cache: Cache, tmp_path: Path) -> None:
    question = ask_in_conversation(cache.sample(1), reader(chat_tokenizer(tmp_path, None)))
    first, second, third, _ = SAYINGS[1]
    assert question is not None and question.text == f"<s>{first}\n\n{second}</s>\n\n{third}\n\n"


def test_tools_calls_and_reasoning_are_in_the_record(tmp_path: Path) -> None:
    call = {"id": "1", "type": "function", "function": {"name": "look", "arguments": {"at": "river"}}}
    tool = {"function": {"name": "look", "parameters": {}}, "type": "function"}
    messages = [
        *talk("Where?"),
        {"role": "assistant", "content": "", "reasoning_content": "I look.", "tool_calls": [call]},
        {"role": "tool", "content": "near", "tool_call_id": "1"},
        {"role": "assistant", "content": "Near the river!"},
    ]
    chats = write_lines(tmp_path / "c.jsonl", [{"id": "a", "messages": messages, "tools": [tool]}])
    config = chat_extraction(tmp_path / "cache", chat_model(tmp_path / "teacher", "qwen3"), chats, tools="tools")
    sample = Cache(build_cache(config)).sample(0)
    tokenizer = chat_tokenizer(tmp_path / "teacher", "qwen3")
    question = ask_in_conversation(sample, reader(tokenizer))
    assert question is not None
    assert question.text == tokenizer.apply_chat_template(
        messages[:-1], tools=[tool], tokenize=False, add_generation_prompt=True
    )
    record = question.answered("Here.")
    assert record["tools"] == [tool] and record["messages"][-1] == {"role": "assistant", "content": "Here."}
    asked, called, told = record["messages"][:-1]
    assert asked == {"role": "user", "content": "Where?"}
    assert (called["role"], called["reasoning_content"], called["tool_calls"]) == ("assistant", "I look.", [call])
    assert told == messages[2]


def test_an_answer_that_the_prompt_begins_is_kept_whole(cache: Cache, tmp_path: Path) -> None:
    """As DeepSeek-R1 has it: the prompt opens a block of reasoning, and the answer is what closes it and goes on."""
    tokenizer = chat_tokenizer(tmp_path, "chatml")
    template = tokenizer.chat_template.replace("assistant\\n' }}{% endif", "assistant\\n<think>\\n' }}{% endif")
    (tmp_path / "thinks.jinja").write_text(template)
    question = ask_in_conversation(cache.sample(0), reader(tokenizer, str(tmp_path / "thinks.jinja")))
    assert question is not None and question.text.endswith("<|im_start|>assistant\n<think>\n")
    assert question.answered("Hm.\n</think>\n\nNo.")["messages"][-1]["content"] == "<think>\nHm.\n</think>\n\nNo."
    (tmp_path / "thinks.jinja").write_text(template.replace("<think>\\n", "<think>\\n\\n</think>\\n\\n"))
    question = ask_in_conversation(cache.sample(0), reader(tokenizer, str(tmp_path / "thinks.jinja")))
    assert question is not None and question.answered("No.")["messages"][-1]["content"] == "No."


def test_the_last_answer_that_is_a_target_is_asked_for(tmp_path: Path) -> None:
    """A conversation that is cut in its second answer is asked for that one."""
    chats = write_chats(tmp_path / "c.jsonl")
    config = chat_extraction(tmp_path / "cache", chat_model(tmp_path / "teacher", "chatml"), chats)
    length = len(
        chat_tokenizer(tmp_path / "teacher", "chatml")(Cache(chat_cache(tmp_path / "whole")).sample(3).text)[
            "input_ids"
        ]
    )
    short = config.model_copy(update={"teacher": config.teacher.model_copy(update={"max_tokens": length - 1})})
    cache = Cache(build_cache(short))
    sample = cache.sample(cache.position("c3"))
    assert sample.truncated
    question = ask_in_conversation(sample, reader(chat_tokenizer(tmp_path / "teacher", "chatml")))
    assert question is not None and len(question.answered("x")["messages"]) == len(SAYINGS[3])


def test_a_refusal_names_the_sample(cache: Cache, tmp_path: Path) -> None:
    tokenizer = chat_tokenizer(tmp_path, "chatml")
    (tmp_path / "two.jinja").write_text(
        "{% if messages | length > 2 %}{{ raise_exception('too long') }}{% endif %}" + tokenizer.chat_template
    )
    asks = reader(tokenizer, str(tmp_path / "two.jinja"))
    assert ask_in_conversation(cache.sample(0), asks) is not None
    with pytest.raises(TokenizerError, match=r"^sample 'c1': .*too long \(the student's\): give another by `chat_temp"):
        ask_in_conversation(cache.sample(1), asks)


def test_a_text_is_asked_for_from_its_prompt_or_its_first_words(cache: Cache) -> None:
    sample = cache.sample(0)
    question = ask_by_text(sample, None)
    assert question is not None and question.text == sample.text[: sample.targets[0, 0]]
    assert question.answered("yes") == {"id": "c0", "prompt": question.text, "response": "yes"}
