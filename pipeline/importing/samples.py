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
from pipeline.importing.distributions import check_rows, find_answer, listed
from pipeline.importing.layout import LAYOUTS, Distributions, ForeignSample
from pipeline.importing.spelling import Unspelt, require_known, spell
from schemas.cache.targets import ends_inside
from schemas.cache.teacher import TeacherRecord
from schemas.cache.token_rows import NO_ROWS, every_row, row_positions
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
    unspelt: int = 0  # that no text gives
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
                tokens = _tokens(foreign, tokenizer, config, teacher)
            except Unspelt as error:
                said = f"{foreign.place}: no text has its tokens: {error}"
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
            if isinstance(foreign.numbers, Distributions):
                if entries is None:
                    entries = max((len(row) for row in foreign.numbers.ids[:1]), default=None)
                yield _with_distributions(foreign, tokens, entries or 1, teacher, counts)
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


def _with_distributions(
    foreign: ForeignSample, tokens: TokenizedSample, entries: int, teacher: TeacherRecord, counts: ImportCounts
) -> ImportedSample:
    found, ids_T = foreign.numbers, tokens.token_ids
    first = 0
    if foreign.answer_alone:
        first = find_answer(found.ids, ids_T, foreign.place) - 1  # a row is of the token before the one it gave
    rows = check_rows(found, entries, teacher.vocab_size, foreign.place)
    count = min(len(found.ids), len(ids_T) - first)
    token_rows = np.array([[first, first + count]], np.int32) if count else NO_ROWS
    following = ids_T[first + 1 : first + count + 1]
    counts.rows += len(following)
    counts.listed += listed(found.ids[: len(following)], following)
    _require_targets(tokens, token_rows, foreign.place)
    return ImportedSample(
        tokens, token_rows, replace(rows, ids_nk=rows.ids_nk[:count], values_nE=rows.values_nE[:count])
    )


def _require_targets(tokens: TokenizedSample, token_rows: np.ndarray, place: str) -> None:
    """Every token that is learnt is predicted from one that has a row. Raises CorpusError."""
    learnt = np.flatnonzero(ends_inside(tokens.token_offsets[:, 1], tokens.targets))
    lacking = np.setdiff1d(learnt[learnt > 0] - 1, row_positions(token_rows))
    if len(lacking):
        raise CorpusError(
            f"{place}: token {int(lacking[0]) + 1} is learnt, and there is no row that predicts it; are these "
            "the conversations that the teacher answered?"
        )
