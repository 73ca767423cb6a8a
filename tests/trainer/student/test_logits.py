"""Logits as what they are made of look like the matrix that they stand for."""

import torch
from torch.nn.functional import linear

from schemas.models.logits import LogitTransform
from trainer.student.logits import Logits, as_logits

HIDDEN, WEIGHT, BIAS = torch.randn(2, 5, 3), torch.randn(7, 3), torch.randn(7)


def test_they_have_the_shape_of_the_matrix() -> None:
    logits = Logits(HIDDEN, WEIGHT, BIAS, LogitTransform(2.0, 1.5))
    assert logits.shape == (2, 5, 7) and logits.flatten(0, 1).shape == (10, 7) and logits.dtype == torch.float32
    right = 1.5 * torch.tanh(2.0 * linear(HIDDEN, WEIGHT, BIAS) / 1.5)
    torch.testing.assert_close(logits.whole(), right)
    torch.testing.assert_close(logits.flatten(0, 1).whole(), right.flatten(0, 1))


def test_they_multiply_in_the_dtype_that_is_asked_for() -> None:
    whole = Logits(HIDDEN, WEIGHT, BIAS, product=torch.bfloat16).whole()
    assert whole.dtype == torch.bfloat16
    torch.testing.assert_close(whole, linear(HIDDEN.bfloat16(), WEIGHT.bfloat16(), BIAS.bfloat16()))


def test_a_matrix_is_what_it_is() -> None:
    logits = as_logits(HIDDEN)
    assert as_logits(logits) is logits and logits.whole() is HIDDEN and logits.shape == HIDDEN.shape


def test_other_tensors_take_their_place() -> None:
    logits = Logits(HIDDEN, WEIGHT, None, LogitTransform(2.0), torch.bfloat16)
    kept = logits.without_tensors()
    assert kept.hidden.numel() == 0 and kept.weight_Vd is None
    again = kept.made_of(HIDDEN, WEIGHT, BIAS)
    assert again.transform.scale == 2.0 and again.product == torch.bfloat16 and again.bias_V is BIAS
