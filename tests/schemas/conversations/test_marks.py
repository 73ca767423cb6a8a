"""The rules of targets, seen: whole texts with « and » around what is learnt."""

from typing import Any

import pytest

from tests.schemas.conversations.families import FAMILIES
from tests.schemas.conversations.record import assistant, call, result, user
from tests.schemas.conversations.truth import Choice, Refused, Truth, truth

BY_NAME = {family.name: family for family in FAMILIES}
ALL = Choice()
TALK = [user("Hello"), assistant("  Hi.\n"), user("Bye"), assistant("Bye.")]
THOUGHT = [user("2 + 2?"), assistant("<think>\nFour.\n</think>\n\n4")]
CALLED = [
    user("Time?"),
    assistant(None, call("get_time", {}, "call00001"), reasoning_content="Ask."),
    result("9:00", "call00001"),
    assistant("Nine.", reasoning_content="So nine."),
]
QUESTION = "<|im_start|>user\nTime?<|im_end|>\n<|im_start|>assistant\n"
CALL = '<tool_call>\n{"name": "get_time", "arguments": {}}\n</tool_call>'
RESULT = "<|im_start|>user\n<tool_response>\n9:00\n</tool_response><|im_end|>\n<|im_start|>assistant\n"


def marked(name: str, messages: list[dict[str, Any]], choice: Choice = ALL) -> str:
    found = truth(BY_NAME[name], {"messages": messages}, choice)
    assert isinstance(found, Truth)
    text = found.text
    for start, end in reversed(found.targets):
        text = f"{text[:start]}«{text[start:end]}»{text[end:]}"
    return text


def test_bare_contents_and_ends() -> None:
    assert marked("chatml", TALK) == (
        "<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n«  Hi.\n<|im_end|>»\n"
        "<|im_start|>user\nBye<|im_end|>\n<|im_start|>assistant\n«Bye.<|im_end|>»"
    )
    assert marked("zephyr", TALK, Choice("last")) == (
        "<|user|>\nHello</s>\n<|assistant|>\n  Hi.\n</s>\n<|user|>\nBye</s>\n<|assistant|>\n«Bye.</s>»"
    )


def test_trimmed_contents() -> None:
    assert marked("mistral", TALK) == "<s>[INST] Hello[/INST] «Hi.</s>»[INST] Bye[/INST] «Bye.</s>»"
    assert marked("gemma3", TALK) == (
        "<bos><start_of_turn>user\nHello<end_of_turn>\n<start_of_turn>model\n«Hi.<end_of_turn>»\n"
        "<start_of_turn>user\nBye<end_of_turn>\n<start_of_turn>model\n«Bye.<end_of_turn>»"
    )


def test_an_empty_block_of_reasoning_is_not_learnt() -> None:
    assert marked("qwen3", TALK) == (
        "<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n«  Hi.\n<|im_end|>»\n"
        "<|im_start|>user\nBye<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n«Bye.<|im_end|>»"
    )
    called = [user("Time?"), assistant(None, call("get_time", {}))]
    assert marked("qwen3", called) == QUESTION + "<think>\n\n</think>\n\n«" + CALL + "<|im_end|>»"


def test_reasoning_with_its_markup() -> None:
    deepseek = "<｜begin▁of▁sentence｜><｜User｜>2 + 2?<｜Assistant｜><think>\n"
    assert marked("deepseek_r1", THOUGHT) == deepseek + "«Four.\n</think>\n\n4<｜end▁of▁sentence｜>»"
    without = Choice(reasoning=False)
    assert marked("deepseek_r1", THOUGHT, without) == deepseek + "Four.\n</think>\n\n«4<｜end▁of▁sentence｜>»"
    assert marked("mistral", THOUGHT) == "<s>[INST] 2 + 2?[/INST]« <think>\nFour.\n</think>\n\n4</s>»"


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        (
            ALL,
            f"«<think>\nAsk.\n</think>\n\n{CALL}<|im_end|>»\n{RESULT}«<think>\nSo nine.\n</think>\n\nNine.<|im_end|>»",
        ),
        (
            Choice(reasoning=False),
            f"<think>\nAsk.\n</think>\n\n«{CALL}<|im_end|>»\n{RESULT}<think>\nSo nine.\n</think>\n\n«Nine.<|im_end|>»",
        ),
        (
            Choice(tool_calls=False),
            f"«<think>\nAsk.\n</think>\n\n»{CALL}<|im_end|>\n{RESULT}«<think>\nSo nine.\n</think>\n\nNine.<|im_end|>»",
        ),
        (
            Choice("last", reasoning=False, tool_calls=False),
            f"<think>\nAsk.\n</think>\n\n{CALL}<|im_end|>\n{RESULT}<think>\nSo nine.\n</think>\n\n«Nine.<|im_end|>»",
        ),
    ],
)
def test_choices_of_parts(choice: Choice, expected: str) -> None:
    assert marked("qwen3", CALLED, choice) == QUESTION + expected


def test_the_text_ends_with_the_last_target() -> None:
    talk = [user("Hello"), assistant("Hi."), user("Bye")]
    assert marked("phi3", talk) == "<|user|>\nHello<|end|>\n<|assistant|>\n«Hi.<|end|>»"
    called = [user("Time?"), assistant("A moment.", call("get_time", {}))]
    shown = QUESTION.removeprefix("<|im_start|>user") + "<think>\n\n</think>\n\n«A moment.»"
    assert marked("qwen3", called, Choice(tool_calls=False)) == "<|im_start|>user" + shown


def test_what_is_dropped_and_rewritten() -> None:
    found = truth(BY_NAME["llama3"], {"messages": CALLED}, ALL)
    assert isinstance(found, Truth)
    assert found.dropped == {(1, "reasoning"), (3, "reasoning")}
    assert found.rewritten == {(2, "content")}


@pytest.mark.parametrize(
    ("name", "messages", "reason"),
    [
        ("gemma3", [user("a"), user("b"), assistant("c")], "roles"),
        ("mistral", [user("a"), assistant("b"), assistant("c")], "roles"),
        ("llama3", [user("a"), assistant(None, call("b", {}), call("c", {}))], "calls"),
        ("zephyr", [user("a"), assistant(None, call("b", {}))], "null"),
        ("qwen3", [user("a"), assistant("b </think> c")], "content"),
        ("chatml", [user("a"), assistant(" \n")], "nothing"),
    ],
)
def test_refused(name: str, messages: list[dict[str, Any]], reason: str) -> None:
    assert truth(BY_NAME[name], {"messages": messages}, ALL) == Refused(reason)
