"""What a student is asked for, by a cached sample: the text that it continues, and the record of what it answers.

A text is continued from where its first target begins. Of a conversation the student gives the last answer that is a
target, in its own chat template, whose prompt for an answer comes last.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from schemas.cache.samples import CachedSample
from schemas.conversations.parts import OPEN
from schemas.conversations.rebuild import rebuild
from schemas.conversations.template import TemplateRefusal
from schemas.errors import TokenizerError
from trainer.alignment.student_conversation import ConversationReader

CLOSE = "</think>"


@dataclass(frozen=True)
class Question:
    """A text to continue."""

    id: str
    text: str
    answered: Callable[[str], dict[str, Any]]  # the record of an answer, for `stillroom extract`


def ask_by_text(sample: CachedSample, words: int | None) -> Question | None:
    """The text before the first target, or the first `words` words of a text that is all target; None if the sample is
    over there."""
    end = int(sample.targets[0, 0]) if len(sample.targets) else len(sample.text)
    if end == 0 and words is not None:
        end = int(sample.words[words - 1, 1]) if words <= len(sample.words) else len(sample.text)
    if end >= len(sample.text):
        return None
    prompt = sample.text[:end]
    return Question(sample.id, prompt, lambda answer: {"id": sample.id, "prompt": prompt, "response": answer})


def ask_in_conversation(sample: CachedSample, reader: ConversationReader) -> Question | None:
    """The conversation up to its last answer that is a target; None if it has none.

    Raises TokenizerError that names the sample, where the template refuses it.
    """
    number = _last_answer(sample)
    if number is None:
        return None
    rebuilt, said = rebuild(sample, reader.inline), rebuild(sample, inline=False)
    place = rebuilt.numbers.index(number)
    try:
        prompt = reader.template.render(rebuilt.messages[:place], rebuilt.tools, add_generation_prompt=True)
    except TemplateRefusal as error:
        raise TokenizerError(
            f"sample {sample.id!r}: {error} (the student's): give another by `chat_template`"
        ) from error
    begun = _begun(prompt.text[max((run.end for run in prompt.runs), default=0) :])
    messages = json.loads(json.dumps(said.messages[:place]))  # plain strings, which know no place
    tools = {"tools": list(said.tools)} if said.tools else {}

    def answered(answer: str) -> dict[str, Any]:
        last = {"role": "assistant", "content": begun + answer}
        return {"id": sample.id, "messages": [*messages, last], **tools}

    return Question(sample.id, prompt.text, answered)


def _last_answer(sample: CachedSample) -> int | None:
    """The number of the last message of an assistant of which something is a target."""
    ranges = sample.targets.tolist()
    return max(
        (
            turn.message
            for turn in sample.turns
            if turn.role == "assistant" and any(turn.start < end and start < turn.end for start, end in ranges)
        ),
        default=None,
    )


def _begun(asks: str) -> str:
    """What of an answer stands in the prompt for it already: a block of reasoning that is open."""
    _, opened, thought = asks.rpartition(OPEN)
    return opened + thought if opened and CLOSE not in thought else ""
