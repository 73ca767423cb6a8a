"""Repeats, against comparing every sample with all before it."""

from hypothesis import given
from hypothesis import strategies as st

from pipeline.corpus.repeats import Repeats
from pipeline.corpus.sample import Sample

TEXT = st.text("ab", max_size=3)


@given(st.lists(st.builds(Sample.of_response, TEXT, TEXT, TEXT), max_size=40))
def test_a_sample_repeats_one_that_is_equal_to_it(samples: list[Sample]) -> None:
    repeats = Repeats()
    said = [repeats.holds(sample) for sample in samples]
    assert said == [sample in samples[:place] for place, sample in enumerate(samples)]
    assert repeats.found == sum(said)
