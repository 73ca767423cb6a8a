"""Conversations of a teacher in Llama 3's template, and how students in Zephyr's read them."""

from functools import cache

from schemas.cache.samples import CachedSample
from schemas.conversations.show import Shown
from tests.schemas.conversations.cases import CASES
from tests.schemas.conversations.shown import show
from tests.schemas.conversations.truth import Choice
from tests.trainer.alignment.characters import BY_NAME, cached, characters, reader_of
from trainer.alignment.student_text import StudentTokenizer


def conversation_tokenizer() -> StudentTokenizer:
    return StudentTokenizer(characters(), 200, False, reader_of(BY_NAME["zephyr"]))


@cache
def conversations() -> tuple[CachedSample, ...]:
    shown = [show(BY_NAME["llama3"], case, Choice()) for case in CASES]
    return tuple(cached(each) for each in shown if isinstance(each, Shown))
