"""The samples of the smallest digests, against sorting all of them."""

import hashlib
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.corpus.calibration import CalibrationSamples, CalibrationSize
from pipeline.corpus.sample import Sample
from pipeline.encoding.calibrate import CALIBRATION


def offered(lengths: list[int], size: CalibrationSize, order: list[int]) -> list[str]:
    found = CalibrationSamples(size)
    for number in order:
        sample = Sample.of_response(str(number), "", "x")
        found.offer(sample, hashlib.sha256(str(number).encode()).digest(), lengths[number])
    return [sample.id for sample in found.samples]


@given(
    st.lists(st.integers(1, 50), min_size=1, max_size=60),
    st.sampled_from([0.05, 0.3, 1.0]),
    st.integers(1, 300),
    st.integers(0, 300),
    st.randoms(use_true_random=False),
)
def test_they_are_the_first_by_digest_that_have_the_tokens_whatever_the_order(
    lengths: list[int], share: float, least: int, more: int, rng: random.Random
) -> None:
    size = CalibrationSize(share, least, least + more)
    wanted = min(least + more, max(least, share * sum(lengths)))
    by_digest = sorted(range(len(lengths)), key=lambda number: hashlib.sha256(str(number).encode()).digest())
    expected, held = list[str](), 0
    for number in by_digest:
        if held >= wanted:
            break
        expected.append(str(number))
        held += lengths[number]
    order = list(range(len(lengths)))
    assert offered(lengths, size, order) == expected
    rng.shuffle(order)
    assert offered(lengths, size, order) == expected


@pytest.mark.parametrize(("corpus", "tokens"), [(3_000, 20_000), (300_001, 30_001), (10**9, 40_000)])
def test_a_tenth_of_a_corpus_within_bounds(corpus: int, tokens: int) -> None:
    assert CALIBRATION.tokens(corpus) == tokens
