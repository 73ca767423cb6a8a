"""The samples of the smallest digests, against sorting all of them."""

import hashlib
import random

from hypothesis import given
from hypothesis import strategies as st

from pipeline.corpus.calibration import CalibrationSamples
from pipeline.corpus.sample import Sample


def offered(lengths: list[int], wanted: int, order: list[int]) -> list[str]:
    found = CalibrationSamples(wanted)
    for number in order:
        sample = Sample.of_response(str(number), "", "x")
        found.offer(sample, hashlib.sha256(str(number).encode()).digest(), lengths[number])
    return [sample.id for sample in found.samples]


@given(st.lists(st.integers(1, 50), min_size=1, max_size=60), st.integers(0, 300), st.randoms(use_true_random=False))
def test_they_are_the_first_by_digest_that_have_the_tokens_whatever_the_order(
    lengths: list[int], wanted: int, rng: random.Random
) -> None:
    by_digest = sorted(range(len(lengths)), key=lambda number: hashlib.sha256(str(number).encode()).digest())
    expected, held = list[str](), 0
    for number in by_digest:
        if held >= wanted:
            break
        expected.append(str(number))
        held += lengths[number]
    order = list(range(len(lengths)))
    assert offered(lengths, wanted, order) == expected
    rng.shuffle(order)
    assert offered(lengths, wanted, order) == expected
