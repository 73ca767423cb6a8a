"""What became of the conversations of a corpus, in words: `stillroom plan` and the end of `extract` say it alike."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.corpus.conversations import ConversationCounts  # imports transformers, for seconds

NAMES = {"content": "contents", "reasoning": "reasoning", "tool_calls": "tool calls"}


def describe_losses(counts: "ConversationCounts | None") -> dict[str, str]:
    """What the chat template refuses, drops and rewrites, by a heading; nothing where it does none of that."""
    if counts is None:
        return {}
    found = {
        "refused": f"{counts.refused:,}, the first of them {counts.first_refusal}" if counts.refused else "",
        "not shown": _parts(counts.dropped, "which the chat template does not show"),
        "rewritten": _parts(counts.rewritten, "which the chat template shows otherwise"),
    }
    return {heading: said for heading, said in found.items() if said}


def _parts(counts: Mapping[str, int], what: str) -> str:
    """E.g. `reasoning of 12 messages, tool calls of 3, which ...`."""
    named = [(NAMES.get(kind, kind), number) for kind, number in sorted(counts.items())]
    said = [
        f"{name} of {number:,}" + ("" if place else _messages(number)) for place, (name, number) in enumerate(named)
    ]
    return ", ".join([*said, what]) if said else ""


def _messages(number: int) -> str:
    return " message" if number == 1 else " messages"
