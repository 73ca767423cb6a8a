"""Drawing a token: held against a loop over Python floats, and against the probabilities themselves."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.generation.sampling import InverseTransform, draw, uniform_numbers


def naive(logits: list[float], uniform: float, temperature: float, top_p: float) -> int:
    if temperature == 0:
        return logits.index(max(logits))
    weights = [math.exp((z - max(logits)) / temperature) for z in logits]
    p = [w / math.fsum(weights) for w in weights]
    nucleus, held = set[int](), 0.0
    for token in sorted(range(len(p)), key=lambda token: -p[token]):
        if held >= top_p and top_p < 1:  # a sum that rounds to 1 leaves no token out
            break
        nucleus.add(token)
        held += p[token]
    passed = 0.0
    for token in sorted(nucleus):
        passed += p[token]
        if passed > uniform * held:
            return token
    raise AssertionError("the cumulative probability reaches its end")


@settings(deadline=None, max_examples=300)
@given(
    logits=st.lists(st.integers(-40, 40).map(lambda n: n / 4), min_size=1, max_size=12, unique=True),
    uniform=st.integers(0, 2**24 - 1).map(lambda n: n / 2**24),
    temperature=st.sampled_from([0.0, 0.3, 0.8, 1.0, 5.0]),
    top_p=st.sampled_from([1e-6, 0.31, 0.5, 0.95, 1.0]),
)
def test_it_is_the_inverse_transform_of_the_nucleus(
    logits: list[float], uniform: float, temperature: float, top_p: float
) -> None:
    drawn = draw(torch.tensor([logits]), torch.tensor([uniform]), temperature, top_p).item()
    assert drawn == naive(logits, uniform, temperature, top_p)


def test_tokens_come_as_often_as_their_probabilities_say() -> None:
    logits_V = torch.tensor([0.0, 2.0, -1.0, 1.0, 3.0, -30.0])
    uniforms = torch.from_numpy(np.concatenate([uniform_numbers(0, f"s{i}", 100) for i in range(400)]))
    drawn = draw(logits_V.expand(len(uniforms), -1), uniforms, 0.8, 1.0)
    p_V = (logits_V.double() / 0.8).softmax(0)
    share_V = torch.bincount(drawn, minlength=6) / len(drawn)
    error_V = (p_V * (1 - p_V) / len(drawn)).sqrt()
    assert ((share_V - p_V).abs() <= 4 * error_V + 1e-12).all()


def test_numbers_belong_to_a_seed_and_a_sample() -> None:
    first = uniform_numbers(1, "a", 8)
    np.testing.assert_array_equal(first, uniform_numbers(1, "a", 100)[:8])
    assert not np.array_equal(first, uniform_numbers(2, "a", 8))
    assert not np.array_equal(first, uniform_numbers(1, "b", 8))
    assert not np.array_equal(uniform_numbers(1, "1\na", 8), uniform_numbers(11, "a", 8))
    # On every machine and with every NumPy: others would be other texts.
    assert [float(number).hex() for number in first[:2]] == ["0x1.bb88a80000000p-2", "0x1.3b79a80000000p-2"]


@pytest.mark.parametrize("step", [0, 1])
def test_only_the_drawn_token_is_left_and_none_that_the_tokenizer_lacks(step: int) -> None:
    logits_BV = torch.tensor([[0.0, 1.0, 9.0], [0.0, 1.0, 9.0]])
    sampling = InverseTransform([np.array([0.0, 0.999], np.float32)] * 2, 4, 2, 1.0, 1.0)
    left_BV = sampling(torch.zeros(2, 4 + step, dtype=torch.long), logits_BV)
    assert left_BV.isfinite().sum(1).tolist() == [1, 1]
    assert left_BV.argmax(1).tolist() == [step, step]
