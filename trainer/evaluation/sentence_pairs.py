"""Pairs of sentences that people have scored, such as the STS benchmark's."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from schemas.errors import CorpusError
from schemas.shown import quoted
from schemas.texts.fields import field_of, text_of
from schemas.texts.records import read_records

COLUMNS = ("sentence1", "sentence2", "score")
MOST_PAIRS = 10_000_000


@dataclass(frozen=True)
class SentencePair:
    """Two sentences and how alike people find them, on whatever scale."""

    first: str
    second: str
    score: float


def read_pairs(path: Path, limit: int | None = None) -> list[SentencePair]:
    """The first `limit` pairs of a file of records: sentence1, sentence2, score; columns of CSV and TSV in this order
    unless the first line names them.

    Raises CorpusError with file and line: as `read_records` does, a missing field, a sentence that is not a text, a
    score that is not a number, fewer than two pairs or scores that are all equal.
    """
    pairs: list[SentencePair] = []
    for number, record in read_records(path, COLUMNS, columns=COLUMNS):
        if len(pairs) == limit:
            break
        if len(pairs) == MOST_PAIRS:
            raise CorpusError(f"{path}: more than {MOST_PAIRS:,} pairs; set a limit")
        place = f"{path}:{number}"
        first, second = text_of(record, COLUMNS[0], place), text_of(record, COLUMNS[1], place)
        pairs.append(SentencePair(first, second, _number(field_of(record, COLUMNS[2], place), place)))
    if len({pair.score for pair in pairs}) < 2:
        raise CorpusError(f"{path}: {len(pairs)} pairs, and not two different scores among them: there is no ranking")
    return pairs


def _number(value: Any, place: str) -> float:
    """A table's numbers are strings."""
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        raise CorpusError(f"{place}: the score {quoted(value)} is not a number")
    return number
