"""Top-k rows, checked: what `schemas.cache.kinds.top_k` packs.

Shapes: n rows, k entries.
"""

from dataclasses import dataclass

import numpy as np

from pipeline.importing.layout import Distributions
from schemas.cache.kinds.next_token import NO_TAIL
from schemas.errors import CorpusError

LEAST_TAIL = 1e-9


class Unpaired(Exception):
    """Rows of an answer that are of none of its tokens; says why."""


@dataclass(frozen=True)
class TopKRows:
    """Of every row the k likeliest tokens, and the log-probability of all others together behind theirs."""

    ids_nk: np.ndarray  # int32
    values_nE: np.ndarray  # float32 [n, k + 1]


def check_rows(found: Distributions, k: int, vocabulary: int, place: str) -> TopKRows:
    """The k likeliest of each row.

    Raises CorpusError: ids and log-probabilities that do not pair, fewer than k of them, a token that the teacher does
    not have, one that is listed twice, what is not a log-probability, and a sum above 1.
    """
    if len(found.ids) != len(found.logprobs):
        raise CorpusError(f"{place}: {len(found.ids)} rows of ids and {len(found.logprobs)} of log-probabilities")
    ids_nk, values_nE = np.empty((len(found.ids), k), np.int32), np.empty((len(found.ids), k + 1))
    for row, (ids, values) in enumerate(zip(found.ids, found.logprobs, strict=True)):
        where = f"{place}: row {row}"
        if len(ids) != len(values):
            raise CorpusError(f"{where} has {len(ids)} ids and {len(values)} log-probabilities")
        given = values > -np.inf
        if np.isnan(values).any() or (values > found.slack).any():
            raise CorpusError(
                f"{where} holds a number that is not a log-probability: {values[~(values <= found.slack)][0]}"
            )
        ids, values = ids[given], values[given]
        if len(ids) < k:
            raise CorpusError(f"{where} has {len(ids)} entries, fewer than {k}; set `k` to what every row has")
        if ((ids < 0) | (ids >= vocabulary)).any():
            wrong = ids[(ids < 0) | (ids >= vocabulary)][0]
            raise CorpusError(f"{where}: token {wrong} is none of the teacher's {vocabulary:,}; is it the right one?")
        if len(set(ids.tolist())) < len(ids):
            raise CorpusError(f"{where} lists a token twice")
        best = np.argsort(-values, kind="stable")[:k]
        ids_nk[row], values_nE[row, :k] = ids[best], values[best]
        whole, kept = np.exp(values).sum(), np.exp(values[best]).sum()
        if whole > 1 + found.slack:
            raise CorpusError(f"{where}: its probabilities sum to {whole:.4g}; are they log-probabilities?")
        values_nE[row, k] = np.log(1 - kept) if 1 - kept > LEAST_TAIL and k < vocabulary else NO_TAIL
    values_nE -= np.log(np.exp(values_nE).sum(axis=1, keepdims=True))
    return TopKRows(ids_nk, np.maximum(values_nE, NO_TAIL).astype(np.float32))


def listed(ids: list[np.ndarray], tokens: np.ndarray) -> int:
    """How many rows list the token that stands beside them."""
    return sum(int(token in row) for row, token in zip(ids, tokens.tolist(), strict=True))


def _stand_at(first: int, ids: list[np.ndarray], tokens_T: np.ndarray) -> bool:
    return all(token in row for row, token in zip(ids, tokens_T[first : first + len(ids)], strict=True))


def find_answer(ids: list[np.ndarray], tokens_T: np.ndarray, begins: int) -> int:
    """Where the first token stands that was drawn from a row: at one place alone each lists the token that it gave. If
    they fit at several, as short answers may, it is the token where the answer `begins`.

    Raises Unpaired if there is none, or several others.
    """
    fits = [first for first in range(1, len(tokens_T) - len(ids) + 1) if _stand_at(first, ids, tokens_T)]
    if begins in fits:
        return begins
    if len(fits) != 1:
        said = (
            "at no place of the conversation do its tokens stand in them"
            if not fits
            else f"they fit at {len(fits)} places"
        )
        raise Unpaired(
            f"its {len(ids)} rows cannot be paired with tokens: {said}; is the chat template the teacher's, and does "
            "its tokenizer make these tokens of the answer?"
        )
    return fits[0]
