"""Top-k rows that were found somewhere become rows as a cache has them."""

import numpy as np
import pytest

from pipeline.importing.distributions import Unpaired, check_rows, find_answer, listed
from pipeline.importing.layout import Distributions
from schemas.cache.kinds.next_token import NO_TAIL
from schemas.errors import CorpusError


def distributions(*rows: dict[int, float], slack: float = 1e-3) -> Distributions:
    return Distributions([np.array(list(row)) for row in rows], [np.log(list(row.values())) for row in rows], slack)


def test_the_likeliest_are_kept_and_the_others_make_the_tail() -> None:
    """An entry of no probability is none; what is left of 1 is the tail, also of what was listed and is not kept."""
    with np.errstate(divide="ignore"):
        found = distributions({7: 0.25, 2: 0.5, 3: 0.125}, {5: 0.5, 1: 0.5, 0: 0.0})
    rows = check_rows(found, 2, 8, "x")
    assert rows.ids_nk.tolist() == [[2, 7], [5, 1]] and rows.ids_nk.dtype == np.int32
    np.testing.assert_allclose(np.exp(rows.values_nE), [[0.5, 0.25, 0.25], [0.5, 0.5, 0]], atol=1e-7)
    assert rows.values_nE[1, 2] == NO_TAIL and rows.values_nE.dtype == np.float32


def test_a_sum_a_little_above_one_is_brought_to_it() -> None:
    rows = check_rows(distributions({0: 0.6, 1: 0.42}, slack=0.05), 2, 4, "x")
    np.testing.assert_allclose(np.exp(rows.values_nE), [[0.6 / 1.02, 0.42 / 1.02, 0]], atol=1e-7)
    with pytest.raises(CorpusError, match=r"x: row 0: its probabilities sum to 1.02; are they log-probabilities\?"):
        check_rows(distributions({0: 0.6, 1: 0.42}), 2, 4, "x")


def test_an_answer_stands_where_every_row_lists_its_token() -> None:
    ids = [np.array([4, 9]), np.array([9, 5]), np.array([6])]
    tokens = np.array([1, 4, 5, 7, 4, 5, 6, 2])
    assert find_answer(ids, tokens, 4) == find_answer(ids, tokens, 6) == 4
    assert listed(ids, tokens[1:4]) == 2
    with pytest.raises(Unpaired, match="its 3 rows cannot be paired with tokens: at no place of"):
        find_answer(ids, tokens[:6], 4)


def test_an_answer_that_fits_at_several_places_is_where_it_begins() -> None:
    """A short one may stand in the question, too."""
    ids, tokens = [np.array([4, 9])], np.array([1, 4, 9, 2])
    assert find_answer(ids, tokens, 2) == 2
    with pytest.raises(Unpaired, match="they fit at 2 places"):
        find_answer(ids, tokens, 3)
