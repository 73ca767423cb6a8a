"""Teacher tokens of samples, with the characters each one covers.

The stored ids are exactly what the tokenizer makes of the stored text (plus end of sequence, where asked for). So a
text that is too long is not cut between tokens alone: it is cut at a character, tokenized anew, until it fits.
Costs about a second for 1 MB of text on one core; cutting costs one more tokenization of the texts that are cut.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from tokenizers import Encoding

from pipeline.corpus.sample import Sample
from schemas.cache.samples import Turn
from schemas.cache.structure import Structure
from schemas.cache.targets import clip_ranges
from schemas.configs.extraction import TeacherConfig
from schemas.errors import CorpusError, TokenizerError
from schemas.models.bare_tokenizer import AnyTokenizer
from schemas.models.spelt_tokens import greedy_tokens, own_characters
from schemas.models.tokenizer_run import encode_texts

Overlong = Literal["truncate", "skip", "error"]


@dataclass(frozen=True)
class TokenizedSample:
    """A sample with the teacher's tokens. `text` ends where the tokens end."""

    id: str
    text: str
    targets: np.ndarray  # [n, 2] int32, characters
    truncated: bool
    token_ids: np.ndarray  # [T] int32
    token_offsets: np.ndarray  # [T, 2] int32, [start, end) in text; empty for special tokens
    turns: tuple[Turn, ...] = ()  # of a conversation
    structure: str = ""


@dataclass(frozen=True)
class Counts:
    """Counts of samples that were too long, by what became of them."""

    truncated: int  # cut, and kept
    overlong: int  # left out: asked for, or nothing of the response would have remained


def tokenize(
    samples: Sequence[Sample], tokenizer: AnyTokenizer, config: TeacherConfig, overlong: Overlong
) -> tuple[list[TokenizedSample], Counts]:
    """The samples that are kept, in order, with at most `config.max_tokens` tokens each.

    A special token that the tokenizer adds covers no character: its range is empty and lies where the text before it
    ends. A sample is left out if a cut would leave no token of a target. Raises TokenizerError naming the sample
    whose offsets make no sense; CorpusError for a long sample under `overlong: error`.
    """
    eos = _eos(tokenizer) if config.append_eos else None
    has_conversations = any(sample.is_conversation for sample in samples)
    greedy = greedy_tokens(tokenizer) if has_conversations else frozenset[int]()
    kept: list[TokenizedSample] = []
    num_overlong = 0
    for sample, encoding in zip(samples, _encode(tokenizer, samples), strict=True):
        tokens = _read(sample, sample.text, encoding, greedy)
        if _length(tokens, eos) > config.max_tokens:
            if overlong == "error":
                raise CorpusError(
                    f"sample {sample.id!r} has {_length(tokens, eos)} tokens, more than teacher.max_tokens "
                    f"({config.max_tokens}); raise that, or set corpus.overlong to truncate or skip"
                )
            short = None if overlong == "skip" else _truncate(sample, tokens, tokenizer, config.max_tokens, greedy)
            if short is None:
                num_overlong += 1
                continue
            tokens = short
        elif eos is not None:
            tokens = _append(tokens, eos)
        kept.append(tokens)
    return kept, Counts(sum(sample.truncated for sample in kept), num_overlong)


def _eos(tokenizer: AnyTokenizer) -> int:
    if tokenizer.eos_token_id is None:
        raise TokenizerError("teacher.append_eos: the tokenizer has no end-of-sequence token; set it to false")
    return int(tokenizer.eos_token_id)


def _encode(tokenizer: AnyTokenizer, samples: Sequence[Sample]) -> list[Encoding]:
    """A chat template spells out its special tokens, so the tokenizer adds none of its own."""
    if not samples:
        return []
    return encode_texts(tokenizer, [sample.text for sample in samples], not samples[0].is_conversation)


def _read(sample: Sample, text: str, encoding: Encoding, greedy: frozenset[int]) -> TokenizedSample:
    ids = np.array(encoding.ids, dtype=np.int32)
    offsets = np.array(encoding.offsets, dtype=np.int32).reshape(-1, 2)
    added = np.array(encoding.special_tokens_mask, dtype=bool)
    if not len(ids):
        raise TokenizerError(f"sample {sample.id!r}: the teacher's tokenizer makes no token of it; remove that record")
    if sample.is_conversation:
        offsets = own_characters(text, ids, offsets, greedy)
    offsets[added] = 0
    starts, ends = offsets[~added].T
    if (starts > ends).any() or (np.diff(starts) < 0).any() or (np.diff(ends) < 0).any() or (ends > len(text)).any():
        raise TokenizerError(
            f"sample {sample.id!r}: the tokenizer's character offsets run backwards or leave the text; "
            "states could not be tied to characters. Use the model's current fast tokenizer"
        )
    # Starts and ends grow, so the running maximum puts each added token where the text before it ends.
    offsets[added] = np.maximum.accumulate(offsets[:, 1])[added, None]
    turns = tuple(replace(turn, end=min(turn.end, len(text))) for turn in sample.turns if turn.start < len(text))
    return TokenizedSample(
        sample.id,
        text,
        clip_ranges(np.array(sample.targets, np.int32).reshape(-1, 2), len(text)),
        False,
        ids,
        offsets,
        turns,
        sample.structure if text == sample.text else _cut_structure(sample.structure, turns, len(text)),
    )


def _cut_structure(structure: str, turns: Sequence[Turn], length: int) -> str:
    messages = max((turn.message for turn in turns), default=-1) + 1
    return Structure.load(structure).cut(messages, length).dump()


def _length(tokens: TokenizedSample, eos: int | None) -> int:
    """Tokens of the whole sample, its end included."""
    return len(tokens.token_ids) + (eos is not None and tokens.token_ids[-1] != eos)


def _append(tokens: TokenizedSample, eos: int) -> TokenizedSample:
    if tokens.token_ids[-1] == eos:  # some tokenizers end every text by themselves
        return tokens
    end = np.full((1, 2), tokens.token_offsets[-1, 1], dtype=np.int32)
    return replace(
        tokens,
        token_ids=np.append(tokens.token_ids, np.int32(eos)),
        token_offsets=np.concatenate([tokens.token_offsets, end]),
    )


def _truncate(
    sample: Sample, tokens: TokenizedSample, tokenizer: AnyTokenizer, max_tokens: int, greedy: frozenset[int]
) -> TokenizedSample | None:
    """The longest beginning found that fits, or None if no token of a target would be left."""
    begin = sample.targets[0][0]
    while len(tokens.token_ids) > max_tokens:
        cut = _cut(tokens, max_tokens)
        if cut <= begin:
            return None
        text = tokens.text[:cut]
        (encoding,) = _encode(tokenizer, [replace(sample, text=text)])
        tokens = _read(sample, text, encoding, greedy)
    if tokens.token_offsets[-1, 1] <= begin:
        return None
    return replace(tokens, truncated=True)


def _cut(tokens: TokenizedSample, max_tokens: int) -> int:
    """Where to cut the text so that `max_tokens` tokens, or fewer, are left: an end of a token that no later token
    begins before, as the bytes of one character do. Always shorter than the text, so cutting comes to an end."""
    covering = tokens.token_offsets[tokens.token_offsets[:, 1] > tokens.token_offsets[:, 0]]
    surplus = len(tokens.token_ids) - max_tokens
    for last in range(len(covering) - surplus - 1, -1, -1):
        end, following = int(covering[last, 1]), int(covering[last + 1, 0])
        if end <= following and end < len(tokens.text):
            return end
    return 0
