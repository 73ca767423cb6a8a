"""Conversations in tokens that are characters: what a family's students read of what another's teacher was told."""

from dataclasses import replace
from functools import cache

import numpy as np
from tokenizers import Regex, Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from schemas.cache.samples import CachedSample
from schemas.cache.token_rows import every_row
from schemas.conversations.show import Shown
from schemas.conversations.template import ChatTemplate
from tests.schemas.conversations.families import FAMILIES, Family
from tests.trainer.alignment.samples import ranges
from trainer.alignment.student_conversation import ConversationReader

BY_NAME = {family.name: family for family in FAMILIES}


@cache
def characters() -> PreTrainedTokenizerFast:
    """Every character is a token; most are unknown to it."""
    backend = Tokenizer(models.WordLevel({"?": 0}, unk_token="?"))
    backend.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    return PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="?")


@cache
def reader_of(family: Family) -> ConversationReader:
    named = {"bos_token": family.bos or "", "eos_token": family.eos}
    return ConversationReader(ChatTemplate(family.template, named, family.arguments), family.special)


def cached(shown: Shown, end: int | None = None) -> CachedSample:
    """A teacher's sample whose tokens are characters, cut at `end`."""
    text = shown.text[:end]
    each = ranges([(place, place + 1) for place in range(len(text))])
    targets = ranges([(start, min(stop, len(text))) for start, stop in shown.targets if start < len(text)])
    turns = tuple(replace(turn, end=min(turn.end, len(text))) for turn in shown.turns if turn.start < len(text))
    nothing = ranges([])
    return CachedSample(
        "s7",
        text,
        targets,
        end is not None,
        np.zeros(len(each), np.int32),
        each,
        every_row(len(each)),
        nothing,
        nothing,
        nothing,
        turns,
        shown.structure,
    )
