"""Which characters are learnt: each choice, and ends of turns with the last part alone."""

import pytest

from schemas.conversations.targets import TargetChoice
from tests.schemas.conversations.readers import show
from tests.schemas.conversations.record import assistant, call, result, user

CALL = call("f", {"a": 1}, "call00001")
WRITTEN = '\n<tool_call>\n{"name": "f", "arguments": {"a": 1}}\n</tool_call>'
TRACE = (
    user("Q"), assistant("B", CALL, reasoning_content="R"), result("7", "call00001"), assistant("C"), user("Q"),
    assistant("D", reasoning_content="S"),
)  # fmt: skip


def learnt(family: str, choice: TargetChoice) -> list[str]:
    shown = show(family, *TRACE, choice=choice)
    return [shown.text[start:end] for start, end in shown.targets]


THOUGHT = "<think>\nS\n</think>\n\n"


@pytest.mark.parametrize(
    ("choice", "targets"),
    [
        (TargetChoice(), [f"B{WRITTEN}<|im_end|>", "C<|im_end|>", f"{THOUGHT}D<|im_end|>"]),
        (TargetChoice(reasoning=False), [f"B{WRITTEN}<|im_end|>", "C<|im_end|>", "D<|im_end|>"]),
        (TargetChoice(tool_calls=False), ["B", "C<|im_end|>", f"{THOUGHT}D<|im_end|>"]),
        (TargetChoice("last"), [f"{THOUGHT}D<|im_end|>"]),
        (TargetChoice("last", reasoning=False), ["D<|im_end|>"]),
    ],
)
def test_what_is_learnt_is_a_choice(choice: TargetChoice, targets: list[str]) -> None:
    """Qwen 3 drops the reasoning before the last question, R."""
    assert learnt("qwen3", choice) == targets


@pytest.mark.parametrize(
    ("choice", "targets"),
    [
        (TargetChoice(), ["B<|im_end|>", "C<|im_end|>", "D<|im_end|>"]),
        (TargetChoice("last"), ["D<|im_end|>"]),
    ],
)
def test_what_a_template_drops_is_not_learnt(choice: TargetChoice, targets: list[str]) -> None:
    assert learnt("chatml", choice) == targets


def test_the_end_of_a_turn_is_learnt_with_its_last_part() -> None:
    reasoned = (user("Q"), assistant("", reasoning_content="R"))
    shown = show("qwen3", *reasoned)
    assert [shown.text[slice(*target)] for target in shown.targets] == ["<think>\nR\n</think>\n\n<|im_end|>"]
    assert show("qwen3", *reasoned, choice=TargetChoice(reasoning=False)).targets == ()
    called = (user("Q"), assistant(None, CALL, reasoning_content="R"))
    apart = show("qwen3", *called, choice=TargetChoice(tool_calls=False))
    assert [apart.text[slice(*target)] for target in apart.targets] == ["<think>\nR\n</think>\n\n"]
    calls = show("qwen3", *called, choice=TargetChoice(reasoning=False))
    assert [calls.text[slice(*target)] for target in calls.targets] == [f"{WRITTEN[1:]}<|im_end|>"]


def test_blank_answers_and_results_of_tools_are_not_learnt() -> None:
    shown = show("chatml", user("Q"), assistant(" \n"), user("Q"), assistant("B"), result("7"))
    assert [shown.text[slice(*target)] for target in shown.targets] == ["B<|im_end|>"]
    assert (
        show("chatml", user("Q"), assistant("B"), user("Q"), assistant(""), choice=TargetChoice("last")).targets == ()
    )


def test_wants() -> None:
    choice = TargetChoice(reasoning=False)
    assert [choice.wants(kind) for kind in ("content", "reasoning", "tool_calls")] == [True, False, True]
