"""The formula of logits against float64, its gradient against autograd, and models that follow it or another."""

from collections.abc import Callable

import pytest
import torch
import transformers as tf
from torch import nn

from schemas.errors import ModelError
from schemas.models.logits import LogitTransform, find_head, require_logits

TRANSFORMS = [LogitTransform(), LogitTransform(0.25), LogitTransform(1.0, 5.0), LogitTransform(2.0, 3.0)]


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("bias", [False, True])
def test_logits_are_those_of_the_formula(transform: LogitTransform, bias: bool) -> None:
    torch.manual_seed(0)
    hidden_Td, weight_Vd = torch.randn(3, 5), torch.randn(7, 5)
    bias_V = torch.randn(7) if bias else None
    x = hidden_Td.double() @ weight_Vd.double().T + (bias_V.double() if bias_V is not None else 0)
    right = transform.scale * x
    if transform.softcap is not None:
        right = transform.softcap * torch.tanh(right / transform.softcap)
    torch.testing.assert_close(transform(x), right)
    torch.testing.assert_close(transform.of_states(hidden_Td, weight_Vd, bias_V).double(), right, rtol=1e-5, atol=1e-6)
    for temperature in (1.0, 2.5):
        found = transform.tempered(hidden_Td, weight_Vd, bias_V, temperature).double()
        torch.testing.assert_close(found, right / temperature, rtol=1e-5, atol=1e-6)
    half = transform.of_states(hidden_Td.bfloat16(), weight_Vd.bfloat16(), bias_V)
    assert half.dtype == torch.float32


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_the_gradient_is_autograds(transform: LogitTransform) -> None:
    x = torch.randn(50, dtype=torch.float64, requires_grad=True)
    z, upstream = transform(x), torch.randn(50, dtype=torch.float64)
    torch.testing.assert_close(transform.backward(upstream, z.detach()), torch.autograd.grad(z, x, upstream)[0])


CONFIGS: dict[str, tuple[Callable[[], tf.PreTrainedConfig], LogitTransform]] = {
    "llama": (tf.LlamaConfig, LogitTransform()),
    "granite": (lambda: tf.GraniteConfig(logits_scaling=8.0), LogitTransform(0.125)),
    "cohere": (lambda: tf.CohereConfig(logit_scale=0.25), LogitTransform(0.25)),
    "falcon-h1": (lambda: tf.FalconH1Config(lm_head_multiplier=0.5), LogitTransform(0.5)),
    "gemma2": (lambda: tf.Gemma2Config(final_logit_softcapping=1.5), LogitTransform(1.0, 1.5)),
}


@pytest.mark.parametrize("name", CONFIGS)
def test_configs_name_it_in_their_own_ways(name: str) -> None:
    make, wanted = CONFIGS[name]
    assert LogitTransform.of(make()) == wanted


def llama() -> tf.LlamaForCausalLM:
    torch.manual_seed(0)
    sizes = {"vocab_size": 31, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1}
    return tf.LlamaForCausalLM(tf.LlamaConfig(**sizes, num_attention_heads=2, initializer_range=0.5)).eval()


def test_logits_that_are_not_the_heads_are_refused_with_the_deviation() -> None:
    model, hidden_Td = llama(), torch.randn(4, 16)
    logits_TV = hidden_Td @ find_head(model)[0].T
    require_logits(model, hidden_Td, logits_TV, LogitTransform(), 1e-4, "it is refused")
    require_logits(model, hidden_Td, logits_TV * torch.nan, LogitTransform(), 1e-4, "running names the sample")
    with pytest.raises(ModelError, match=r"^the logits of LlamaForCausalLM are not .* by up to .*, so it is refused$"):
        require_logits(model, hidden_Td, logits_TV * 1.01, LogitTransform(), 1e-4, "it is refused")


def test_models_that_end_in_something_else_have_no_head() -> None:
    model = llama()
    model.lm_head = nn.Sequential(model.lm_head)
    with pytest.raises(ModelError, match="LlamaForCausalLM has no linear head"):
        find_head(model)
