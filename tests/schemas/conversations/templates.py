"""What transformers makes of a family's template."""

from functools import cache
from typing import Any

import jinja2
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerFast

from tests.schemas.conversations.families import Family
from tests.schemas.conversations.truth import Refused

FAULTS = {
    "alternate": "roles",
    "Only user and assistant": "roles",
    "knows no tools": "tools",
    "single tool-calls": "calls",
    "length 9": "calls",
    "has no attribute 'content'": "null",
}


@cache
def tokenizer(family: Family) -> PreTrainedTokenizerFast:
    """One that knows the special tokens of `family` and its template."""
    model = Tokenizer(WordLevel({"?": 0}, unk_token="?"))
    special = {"eos_token": family.eos} | ({"bos_token": family.bos} if family.bos else {})
    return PreTrainedTokenizerFast(tokenizer_object=model, chat_template=family.template, **special)


def rendered(family: Family, record: dict[str, Any], generation_prompt: bool = False) -> str | Refused:
    """The text of `apply_chat_template`, or why the template raises."""
    try:
        text = tokenizer(family).apply_chat_template(
            record["messages"],
            tools=record.get("tools"),
            add_generation_prompt=generation_prompt,
            tokenize=False,
            **family.arguments,
        )
    except jinja2.TemplateError as error:
        return Refused(next(reason for words, reason in FAULTS.items() if words in str(error)))
    return str(text)
