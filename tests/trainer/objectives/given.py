"""A context of two models that need not exist."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from transformers import PreTrainedTokenizerBase

from schemas.cache.manifest import CacheManifest
from schemas.models.state_decoder import ArrayKey, StateDecoder
from schemas.models.teacher_head import TeacherHead
from trainer.alignment.vocabulary import SharedVocabulary
from trainer.objectives.context import LossContext, StudentSize, final_decoder


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
    decoders: Mapping[ArrayKey, StateDecoder] = field(default_factory=dict)

    @property
    def final_head(self) -> TeacherHead | None:
        decoder = final_decoder(self)
        head: TeacherHead | None = self.head if decoder is None else self.head.folded(decoder)
        return head

    def without_decoders(self) -> "GivenContext":
        """The same, of a cache whose hidden states are raw."""
        return replace(self, decoders={})

    @property
    def student_tokenizer(self) -> PreTrainedTokenizerBase:
        return self.tokenizers[0]

    @property
    def teacher_tokenizer(self) -> PreTrainedTokenizerBase:
        return self.tokenizers[1]


def as_context(given: GivenContext) -> LossContext:
    """For mypy: what is given will do as a context."""
    return given
