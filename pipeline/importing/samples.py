"""Foreign samples made whole: text, tokens, targets, and which tokens their numbers are of. All checked.

Shapes: T tokens, n rows, k entries, d wide.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerBase

from pipeline.annotation.tokens import TokenizedSample, tokenize
from pipeline.importing.distributions import Unpaired, check_rows, find_answer, listed
from pipeline.importing.layout import LAYOUTS, Distributions, ForeignSample
from pipeline.importing.spelling import Unspelt, require_known, spell
from schemas.cache.targets import clip_ranges, ends_inside
from schemas.cache.teacher import TeacherRecord
from schemas.cache.token_rows import NO_ROWS, every_row
from schemas.configs.importing import ImportConfig
from schemas.errors import CorpusError


@dataclass(frozen=True)
class ImportedSample:
    """A sample, and the numbers of the tokens in `token_rows`."""

    tokens: TokenizedSample
    token_rows: np.ndarray  # [R, 2] int32
    numbers: Any  # TopKRows, or hidden states [n, layers, d]


@dataclass
class ImportCounts:
    """What was read, and what became of it."""

    unlearnt: int = 0  # samples of which nothing is learnt
    unspelt: int = 0  # that no text gives, or whose rows are of other tokens
    cut: int = 0  # answers that end behind their rows
    first_unspelt: str = ""
    rows: int = 0  # of distributions, whose next token is known
    listed: int = 0  # that list it
    ids: set[str] = field(default_factory=set)
    repeated: int = 0  # samples that were there before


def read_samples(
    config: ImportConfig, tokenizer: PreTrainedTokenizerBase, folder: Path, teacher: TeacherRecord, counts: ImportCounts
) -> Iterator[ImportedSample]:
    """The samples that are kept, in order. Raises CorpusError that names the place of what is wrong."""
    entries = config.k
    with LAYOUTS.using(config.layout) as layout:
        for foreign in layout.read(config, tokenizer, folder):
            try:
                whole = _tokens(foreign, tokenizer, config, teacher)
                tokens, paired = _pair(foreign, whole)
            except (Unspelt, Unpaired) as error:
                why = "no text has its tokens: " if isinstance(error, Unspelt) else ""
                said = f"{foreign.place}: {why}{error}"
                if config.unspelt == "error":
                    raise CorpusError(f"{said}; `unspelt: skip` leaves such samples out") from error
                counts.unspelt, counts.first_unspelt = counts.unspelt + 1, counts.first_unspelt or said
                continue
            if not len(tokens.targets):
                counts.unlearnt += 1
                continue
            if tokens.id in counts.ids:
                counts.repeated += 1
                continue
            counts.ids.add(tokens.id)
            counts.cut += tokens is not whole
            if isinstance(foreign.numbers, Distributions):
                if entries is None:
                    entries = max((len(row) for row in foreign.numbers.ids[:1]), default=None)
                yield _with_distributions(foreign, tokens, paired, entries or 1, teacher, counts)
            else:
                rows = every_row(len(tokens.token_ids))
                yield ImportedSample(tokens, rows, foreign.numbers[: len(tokens.token_ids)])


def _tokens(
    foreign: ForeignSample, tokenizer: PreTrainedTokenizerBase, config: ImportConfig, teacher: TeacherRecord
) -> TokenizedSample:
    if foreign.sample is not None:
        (tokens,), _ = tokenize([foreign.sample], tokenizer, config.teacher, "error")
        return tokens
    assert foreign.ids_T is not None
    require_known(foreign.ids_T, teacher.vocab_size, foreign.place)
    ids_T, cut = foreign.ids_T, False
    if isinstance(
        foreign.numbers, Distributions
    ):  # behind the tokens that have rows stands padding, or the rest of a text
        left_out = set(ids_T[len(foreign.numbers.ids) :].tolist())
        ids_T, cut = (
            ids_T[: len(foreign.numbers.ids)],
            bool(left_out - {tokenizer.pad_token_id, tokenizer.eos_token_id}),
        )
    if len(ids_T) > teacher.max_tokens:
        raise CorpusError(
            f"{foreign.place}: it has {len(ids_T)} tokens, more than teacher.max_tokens ({teacher.max_tokens}); raise "
            "that"
        )
    return spell(ids_T, foreign.learnt_T, tokenizer, config.teacher, cut)


def _pair(foreign: ForeignSample, tokens: TokenizedSample) -> tuple[TokenizedSample, tuple[int, int]]:
    """The tokens, from and to, that have a row of distributions; none of hidden states, which all tokens have.

    Of an answer that ends behind its rows, what they predict is learnt, and the sample returned says so. Raises
    Unpaired.
    """
    found, ids_T = foreign.numbers, tokens.token_ids
    if not isinstance(found, Distributions) or not len(tokens.targets):
        return tokens, (0, 0)
    learnt = np.flatnonzero(ends_inside(tokens.token_offsets[:, 1], tokens.targets))
    first = 0
    if foreign.answer_alone:  # a row is of the token before the one it gave
        first = find_answer(found.ids, ids_T, int(learnt[0]) if len(learnt) else 0) - 1
    end = min(first + len(found.ids), len(ids_T))
    if len(lacking := learnt[(learnt > 0) & (learnt <= first)]):
        raise Unpaired(
            f"token {int(lacking[0])} is learnt, and there is no row that predicts it; are these the conversations "
            "that the teacher answered?"
        )
    if (learnt > end).any():
        said = clip_ranges(tokens.targets, int(tokens.token_offsets[end, 1]))
        tokens = replace(tokens, targets=said)
    return tokens, (first, end)


def _with_distributions(
    foreign: ForeignSample,
    tokens: TokenizedSample,
    paired: tuple[int, int],
    entries: int,
    teacher: TeacherRecord,
    counts: ImportCounts,
) -> ImportedSample:
    found, (first, end) = foreign.numbers, paired
    rows, count = check_rows(found, entries, teacher.vocab_size, foreign.place), end - first
    following = tokens.token_ids[first + 1 : end + 1]
    counts.rows += len(following)
    counts.listed += listed(found.ids[: len(following)], following)
    return ImportedSample(
        tokens,
        np.array([[first, end]], np.int32) if count else NO_ROWS,
        replace(rows, ids_nk=rows.ids_nk[:count], values_nE=rows.values_nE[:count]),
    )
