"""A cached text in the student's tokens, with the characters that each stands for.

Tokenizing costs a quarter to a whole millisecond per sample and depends on nothing but the sample, the tokenizer and
its settings: `trainer.kept_texts` keeps what it makes, and must be told of every change of it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from transformers import PreTrainedTokenizerBase

from schemas.cache.samples import CachedSample
from schemas.cache.targets import ends_inside
from schemas.errors import TokenizerError
from schemas.models.spelt_tokens import greedy_tokens, own_characters
from schemas.models.tokenizer_run import run_tokenizer
from trainer.alignment.spans import check_offsets
from trainer.alignment.student_conversation import ConversationReader, StudentConversation


@dataclass(frozen=True)
class StudentText:
    """One sample in the student's tokens."""

    ids: np.ndarray  # [S] int64
    offsets: np.ndarray  # [S, 2] int32; special tokens have an empty range
    target: np.ndarray  # [S] bool: belongs to a target, or is the end-of-sequence token
    length: int  # tokens that count as text: all except an end of sequence that the teacher's tokens don't have
    cut: bool  # longer than max_tokens: characters at the end have no token here
    same: np.ndarray | None = None  # [S] bool, of a conversation in another template: all that the teacher has read up
    # to this token, the student has, too

    @property
    def own_template(self) -> bool:
        """Whether it is a conversation that reads otherwise than the teacher's."""
        return self.same is not None

    @property
    def begins_twice(self) -> bool:
        """Whether the text spells out the beginning of sequence that the tokenizer adds as well."""
        is_added = self.offsets[:2, 0] == self.offsets[:2, 1]
        return len(self.ids) > 1 and bool(self.ids[0] == self.ids[1] and is_added[0] and not is_added[1])


TextTokenizer = Callable[[Sequence[CachedSample]], list[StudentText]]


class StudentTokenizer:
    """Tokenizes cached texts for the student, each whole and at once; conversations in the student's own template."""

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        max_tokens: int,
        append_eos: bool,
        conversations: ConversationReader | None = None,
    ):
        """`append_eos` is for texts: of conversations the template says where they end. Without `conversations`, these
        are read as the teacher read them.

        Raises TokenizerError if an end-of-sequence token is asked for and the tokenizer has none.
        """
        if append_eos and tokenizer.eos_token_id is None:
            raise TokenizerError(
                "the student's tokenizer has no end-of-sequence token: set student.append_eos to false"
            )
        self.tokenizer, self.max_tokens, self.append_eos = tokenizer, max_tokens, append_eos
        self.conversations = conversations

    def __call__(self, samples: Sequence[CachedSample]) -> list[StudentText]:
        """The student's tokens of each text, cut at `max_tokens`, with the end of sequence if asked for and not cut."""
        read = [self._read(sample) for sample in samples]
        is_spelt = any(sample.is_conversation for sample in samples)  # a cache holds conversations alone, or none
        encoded = run_tokenizer(
            self.tokenizer,
            [sample.text if own is None else own.text for sample, own in zip(samples, read, strict=True)],
            add_special_tokens=not is_spelt,
            return_offsets_mapping=True,
            return_special_tokens_mask=True,
            return_attention_mask=False,
        )
        rows = zip(encoded["input_ids"], encoded["offset_mapping"], encoded["special_tokens_mask"], strict=True)
        return [self._encode(sample, own, *row) for sample, own, row in zip(samples, read, rows, strict=True)]

    @cached_property
    def _greedy(self) -> frozenset[int]:
        return greedy_tokens(self.tokenizer)

    def _read(self, sample: CachedSample) -> StudentConversation | None:
        """None for a text that both sides read alike."""
        if self.conversations is None or self.conversations.is_teachers or not sample.is_conversation:
            return None
        read = self.conversations.read(sample)
        return None if read.text == sample.text else read

    def _encode(
        self,
        sample: CachedSample,
        own: StudentConversation | None,
        ids: list[int],
        offsets: list[tuple[int, int]],
        special: list[int],
    ) -> StudentText:
        tokens = np.array(ids, np.int64)
        ranges = np.array(offsets, np.int32).reshape(-1, 2)
        if sample.is_conversation:
            ranges = own_characters(sample.text if own is None else own.text, tokens, ranges, self._greedy)
        ranges[np.array(special, bool)] = 0
        target = ends_inside(ranges[:, 1], sample.targets if own is None else own.targets)
        same = None if own is None else own.same_after(ranges)
        try:
            check_offsets(ranges, len(sample.text if own is None else own.text))
            if own is not None:
                ranges = own.in_teacher(ranges)
                check_offsets(ranges, len(sample.text))
        except TokenizerError as error:
            raise TokenizerError(f"sample {sample.id!r}: {error}") from error
        length = len(tokens)
        if own is not None:  # an end of turn that the teacher's tokens do not have
            is_tied = ranges[:, 0] < ranges[:, 1]
            length -= int(np.argmax(is_tied[::-1])) if is_tied.any() else 0
        if self.append_eos and not sample.truncated and not sample.is_conversation:
            if not length or tokens[-1] != self.tokenizer.eos_token_id:  # some tokenizers end every text by themselves
                tokens = np.append(tokens, self.tokenizer.eos_token_id)
                ranges = np.concatenate([ranges, np.zeros((1, 2), np.int32)])
                target = np.append(target, True)
            target[-1] = True
            if ends_with_special(sample):
                length = len(tokens)
        target[:1] = False  # nothing precedes it
        end = self.max_tokens
        cut = len(tokens) > end
        same = None if same is None else same[:end]
        return StudentText(tokens[:end], ranges[:end], target[:end], min(length, end), cut, same)


def ends_with_special(sample: CachedSample) -> bool:
    """Returns whether the teacher's tokens have an end of sequence.

    If not, the student's is a target and nothing else: "the last real token", whose attention gives the masses (SRA),
    must be one and the same place in the text on both sides. A cache that keeps no tokens has no such place.
    """
    if not len(sample.token_offsets):
        return False
    start, end = sample.token_offsets[-1]
    before = sample.token_offsets[:-1, 1].max(initial=0)
    # White space that a tokenizer trims from its offsets (GPT-NeoX) is empty too, but lies behind what it trimmed.
    return bool(start == end == before and len(sample.token_offsets) > 1)
