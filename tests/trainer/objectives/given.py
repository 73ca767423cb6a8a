"""A context of two models that need not exist."""

from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedTokenizerBase

from schemas.cache.manifest import CacheManifest
from trainer.alignment.vocabulary import SharedVocabulary
from trainer.objectives.context import LossContext, StudentSize


@dataclass(frozen=True)
class GivenContext:
    """What the tests say of both models. Whoever asks for tokenizers that were not given finds none."""

    manifest: CacheManifest
    head: Any  # a TeacherHead; None of an encoder
    student: StudentSize
    vocabulary: SharedVocabulary
    same_tokenizer: bool
    embedding_Vd: Any = None  # a Tensor, where the cache keeps one
    tokenizers: tuple[PreTrainedTokenizerBase, ...] = ()  # the student's, the teacher's

    @property
    def student_tokenizer(self) -> PreTrainedTokenizerBase:
        return self.tokenizers[0]

    @property
    def teacher_tokenizer(self) -> PreTrainedTokenizerBase:
        return self.tokenizers[1]


def as_context(given: GivenContext) -> LossContext:
    """For mypy: what is given will do as a context."""
    return given
