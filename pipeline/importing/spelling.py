"""Texts of samples that are kept as tokens alone: what the tokenizer makes these very tokens of, or nothing.

Shapes: T tokens.
"""

from dataclasses import replace

import numpy as np
from transformers import PreTrainedTokenizerBase

from pipeline.annotation.tokens import TokenizedSample, tokenize
from pipeline.corpus.corpus import content_id
from pipeline.corpus.sample import Sample
from schemas.configs.extraction import TeacherConfig
from schemas.errors import CorpusError
from schemas.models.tokenizer_run import run_tokenizer, tokenizer_errors

TRIED = 8  # ends of a text that was cut: within a word, its last token may not be the tokenizer's


class Unspelt(Exception):
    """No text has these tokens; says why."""


def spell(
    ids_T: np.ndarray, learnt_T: np.ndarray | None, tokenizer: PreTrainedTokenizerBase, config: TeacherConfig, cut: bool
) -> TokenizedSample:
    """The sample of these tokens: its text, where each token lies in it, and which characters are learnt.

    Where the text was `cut`, up to TRIED - 1 tokens of its end are left out, if the tokenizer splits it otherwise
    there. Raises Unspelt.
    """
    try:
        tokens = _whole(ids_T, tokenizer, config)
    except Unspelt:
        found = (_try(ids_T[:-fewer], tokenizer, config) for fewer in range(1, min(TRIED, len(ids_T)))) if cut else ()
        shorter = next((each for each in found if each is not None), None)
        if shorter is None:
            raise
        tokens = shorter
    targets = _characters(tokens.token_offsets, learnt_T)
    return replace(tokens, id=content_id("", tokens.text), targets=targets, truncated=cut)


def _try(ids_T: np.ndarray, tokenizer: PreTrainedTokenizerBase, config: TeacherConfig) -> TokenizedSample | None:
    try:
        return _whole(ids_T, tokenizer, config)
    except Unspelt:
        return None


def _whole(ids_T: np.ndarray, tokenizer: PreTrainedTokenizerBase, config: TeacherConfig) -> TokenizedSample:
    before, after = _own(tokenizer)
    inner = ids_T.tolist()
    if (before and inner[: len(before)] != before) or (after and inner[len(inner) - len(after) :] != after):
        names = tokenizer.convert_ids_to_tokens(before + after)
        raise Unspelt(
            f"the tokenizer puts {' and '.join(map(repr, names))} around every text, and these tokens lack it"
        )
    inner = inner[len(before) : len(inner) - len(after)]
    with tokenizer_errors(tokenizer):
        text = tokenizer.decode(inner, skip_special_tokens=False, clean_up_tokenization_spaces=False)
    if not text:
        raise Unspelt("it has no text")
    (tokens,), _ = tokenize([Sample("", text, ((0, len(text)),))], tokenizer, config, "error")
    if not np.array_equal(tokens.token_ids, ids_T):
        raise Unspelt(_difference(tokens.token_ids.tolist(), ids_T.tolist(), tokenizer))
    return tokens


def _own(tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], list[int]]:
    """What the tokenizer puts before and behind every text."""
    encoding = run_tokenizer(tokenizer, ["a"], add_special_tokens=True).encodings
    assert encoding is not None  # it is a fast one
    ids, added = encoding[0].ids, encoding[0].special_tokens_mask
    inner = [place for place, mark in enumerate(added) if not mark]
    return ids[: inner[0]], ids[inner[-1] + 1 :]


def _difference(found: list[int], wanted: list[int], tokenizer: PreTrainedTokenizerBase) -> str:
    place = next(
        (n for n, pair in enumerate(zip(found, wanted, strict=False)) if pair[0] != pair[1]),
        min(map(len, (found, wanted))),
    )
    left, right = (tokenizer.convert_ids_to_tokens(ids[place : place + 1]) or ["its end"] for ids in (wanted, found))
    return f"at token {place} it has {left[0]!r}, and of its text the tokenizer makes {right[0]!r}"


def _characters(offsets_T2: np.ndarray, learnt_T: np.ndarray | None) -> np.ndarray:
    """[R, 2] int32: the characters of the runs of learnt tokens."""
    covering = offsets_T2[:, 1] > offsets_T2[:, 0]
    learnt = covering if learnt_T is None else covering & learnt_T[: len(offsets_T2)]
    ranges = list[list[int]]()
    for start, end in offsets_T2[learnt].tolist():
        if ranges and start <= ranges[-1][1]:
            ranges[-1][1] = max(end, ranges[-1][1])
        else:
            ranges.append([start, end])
    return np.array(ranges, np.int32).reshape(-1, 2)


def require_known(ids_T: np.ndarray, vocabulary: int, place: str) -> None:
    """Raises CorpusError for a token that the teacher does not have."""
    wrong = ids_T[(ids_T < 0) | (ids_T >= vocabulary)]
    if len(wrong):
        raise CorpusError(
            f"{place}: token {int(wrong[0])} is none of the teacher's {vocabulary:,}; is it the right one?"
        )
