"""Pairs of sentences that people have scored, such as the STS benchmark's: read from JSONL, CSV or TSV."""

import csv
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from schemas.errors import CorpusError
from schemas.texts.surrogates import describe_surrogate

COLUMNS = ("sentence1", "sentence2", "score")
JSON_SUFFIXES = {".jsonl", ".ndjson", ".json"}


@dataclass(frozen=True)
class SentencePair:
    """Two sentences and how alike people find them, on whatever scale."""

    first: str
    second: str
    score: float


def read_pairs(path: Path, limit: int | None = None) -> list[SentencePair]:
    """The pairs of a file: sentence1, sentence2, score as fields of JSONL (.jsonl, .ndjson, .json), or as columns of
    a table, .tsv without quoting or else CSV, in this order unless a first line names them.

    Raises CorpusError with file and line: unreadable, not UTF-8, a missing field, no number, fewer than two pairs or
    scores that are all equal.
    """
    read = _json_rows if path.suffix.lower() in JSON_SUFFIXES else _table_rows
    pairs: list[SentencePair] = []
    try:
        for number, first, second, score in read(path):
            if len(pairs) == limit:
                break
            pairs.append(SentencePair(first, second, _number(score, f"{path}:{number}")))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise CorpusError(f"cannot read sentence pairs from {path}: {error}") from error
    if len({pair.score for pair in pairs}) < 2:
        raise CorpusError(f"{path}: {len(pairs)} pairs, and not two different scores among them: there is no ranking")
    return pairs


def _json_rows(path: Path) -> Iterator[tuple[int, str, str, object]]:
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            if not line.strip():
                continue
            try:
                record = json.loads(line)
                first, second, score = (record[column] for column in COLUMNS)
            except (ValueError, TypeError, KeyError, RecursionError) as error:
                raise CorpusError(
                    f"{path}:{number}: {error!r}; a line is an object with {', '.join(COLUMNS)}"
                ) from error
            for text in map(str, (first, second)):
                if problem := describe_surrogate(text):
                    raise CorpusError(f"{path}:{number}: a sentence has {problem}")
            yield number, str(first), str(second), score


def _table_rows(path: Path) -> Iterator[tuple[int, str, str, object]]:
    tabs = path.suffix.lower() == ".tsv"
    with path.open(encoding="utf-8", newline="") as file:
        rows = csv.reader(file, "excel-tab", quoting=csv.QUOTE_NONE) if tabs else csv.reader(file)
        places = [0, 1, 2]
        for cells in rows:
            if rows.line_num == 1 and set(COLUMNS) <= set(cells):
                places = [cells.index(column) for column in COLUMNS]
            elif len(cells) <= max(places):
                raise CorpusError(f"{path}:{rows.line_num}: {len(cells)} columns; a line has {', '.join(COLUMNS)}")
            else:
                first, second, score = (cells[place] for place in places)
                yield rows.line_num, first, second, score


def _number(value: object, place: str) -> float:
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise CorpusError(f"{place}: the score {value!r} is no number")
    return number
