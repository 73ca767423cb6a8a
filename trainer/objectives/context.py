"""The context of a loss: all that it may know of both models when it is built."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

from torch import Tensor
from transformers import PreTrainedTokenizerBase

from schemas.cache.manifest import CacheManifest
from schemas.cache.readable import ReadableCache
from schemas.models.logits import LogitTransform
from schemas.models.state_decoder import ArrayKey, FoldableDecoder, StateDecoder, load_all_decoders
from schemas.models.teacher_head import TeacherHead, load_teacher_embedding, load_teacher_head, warn_of_unproven
from schemas.models.teacher_tokenizer import load_teacher_tokenizer
from schemas.models.tokenizer_rules import same_tokenizer
from trainer.alignment.vocabulary import SharedVocabulary, share_vocabulary


@dataclass(frozen=True)
class StudentSize:
    """How large the student is, and how it turns its head's product into logits."""

    layers: int  # L_S
    width: int  # d_S
    logits: LogitTransform = LogitTransform()  # noqa: RUF009 - frozen


class LossContext(Protocol):
    """Both models, as far as a loss may look. What costs time or memory is made when it is first read."""

    @property
    def manifest(self) -> CacheManifest:
        """Of the cache that the loss reads."""

    @property
    def student(self) -> StudentSize:
        """The student's size."""

    @property
    def head(self) -> TeacherHead | None:
        """The teacher's unembedding; None for an encoder."""

    @property
    def final_head(self) -> TeacherHead | None:
        """The same for what answers `require_final`: folded, where final states are read as coordinates."""

    @property
    def decoders(self) -> Mapping[ArrayKey, StateDecoder]:
        """What decodes the hidden states of each array that is encoded."""

    @property
    def embedding_Vd(self) -> Tensor | None:
        """The teacher's input embeddings, if the cache keeps them."""

    @property
    def student_tokenizer(self) -> PreTrainedTokenizerBase:
        """The tokenizer that cuts texts for the student."""

    @property
    def teacher_tokenizer(self) -> PreTrainedTokenizerBase:
        """The tokenizer that cut them for the teacher."""

    @property
    def same_tokenizer(self) -> bool:
        """Returns whether both cut every text alike."""

    @property
    def vocabulary(self) -> SharedVocabulary:
        """The tokens that both can say."""


def final_decoder(context: "LossContext | CachedTeacher") -> FoldableDecoder | None:
    """The decoder of the final states, if they have coordinates, which a folded head takes instead of them.

    None where several caches are read whose tables differ: their coordinates are of several bases.
    """
    decoder = context.decoders.get(("hidden", context.manifest.teacher.num_layers))
    return decoder if isinstance(decoder, FoldableDecoder) else None


class CachedTeacher:
    """What a cache keeps of its teacher beside the states, and is large: held once, however many students read it."""

    def __init__(self, cache: ReadableCache):
        self.cache, self.manifest = cache, cache.manifest

    @cached_property
    def head(self) -> TeacherHead | None:
        """Raises CacheError: missing, misshapen, not finite."""
        if self.manifest.teacher.head is not None:
            warn_of_unproven(self.cache.path)
        return load_teacher_head(self.cache.path, self.manifest)

    @cached_property
    def final_head(self) -> TeacherHead | None:
        """Raises CacheError as `head` does. Folding costs a product of the head with a [d_T, K] matrix."""
        decoder = final_decoder(self)
        return self.head if self.head is None or decoder is None else self.head.folded(decoder)

    @cached_property
    def decoders(self) -> Mapping[ArrayKey, StateDecoder]:
        """Raises CacheError: tables are missing, altered, unusable."""
        return load_all_decoders(self.cache)

    @cached_property
    def embedding_Vd(self) -> Tensor | None:
        """Raises CacheError: missing, misshapen, not finite."""
        return load_teacher_embedding(self.cache.path, self.manifest)


class CachedContext:
    """The context of a student that learns from a cache; `teacher` is that of the cache, if others have it open."""

    def __init__(
        self,
        cache: ReadableCache,
        model: Any,
        tokenizer: PreTrainedTokenizerBase,
        teacher: CachedTeacher | None = None,
    ):
        self.cache, self.manifest, self.student_tokenizer = cache, cache.manifest, tokenizer
        self._teacher = teacher or CachedTeacher(cache)
        size = model.config.get_text_config()
        logits = LogitTransform.of(size)
        self.student = StudentSize(size.num_hidden_layers, size.hidden_size, logits)

    @property
    def head(self) -> TeacherHead | None:
        """As `CachedTeacher.head`."""
        return self._teacher.head

    @property
    def final_head(self) -> TeacherHead | None:
        """As `CachedTeacher.final_head`."""
        return self._teacher.final_head

    @property
    def decoders(self) -> Mapping[ArrayKey, StateDecoder]:
        """As `CachedTeacher.decoders`."""
        return self._teacher.decoders

    @property
    def embedding_Vd(self) -> Tensor | None:
        """As `CachedTeacher.embedding_Vd`."""
        return self._teacher.embedding_Vd

    @cached_property
    def teacher_tokenizer(self) -> PreTrainedTokenizerBase:
        """Raises TokenizerError or ModelError."""
        return load_teacher_tokenizer(self.cache.path, self.manifest)

    @cached_property
    def same_tokenizer(self) -> bool:
        """Raises TokenizerError for a slow tokenizer."""
        return same_tokenizer(self.student_tokenizer, self.teacher_tokenizer)

    @cached_property
    def vocabulary(self) -> SharedVocabulary:
        """Raises TokenizerError for a slow tokenizer."""
        return share_vocabulary(self.student_tokenizer, self.teacher_tokenizer)
