"""Samples, the texts that a student's tokenizer makes of them, and one that counts what it is asked."""

from collections.abc import Sequence
from dataclasses import replace

from schemas.cache.samples import CachedSample
from tests.trainer.alignment.samples import sample, word_tokenizer
from trainer.alignment.student_text import StudentText, StudentTokenizer
from trainer.kept_texts.identity import digest_of
from trainer.kept_texts.segment import Texts

IDENTITY = {"meaning": 1}


def samples(count: int, first: int = 0) -> list[CachedSample]:
    base = sample("", [(0, 4), (5, 8)], prompt_end=5)
    return [
        replace(base, id=f"s{n}", text=f"say: old cat {n} " + "cat " * (n % 7)) for n in range(first, first + count)
    ]


class Counting:
    """A StudentTokenizer that knows which samples it has cut."""

    def __init__(self) -> None:
        self._tokenize = StudentTokenizer(word_tokenizer(["say:", "old", "cat"], eos_token="</s>"), 9, True)
        self.asked = list[str]()

    def __call__(self, asked: Sequence[CachedSample]) -> list[StudentText]:
        self.asked += [sample.id for sample in asked]
        return self._tokenize(asked)


def texts_of(made_of: Sequence[CachedSample]) -> Texts:
    return dict(zip(map(digest_of, made_of), Counting()(made_of), strict=True))
