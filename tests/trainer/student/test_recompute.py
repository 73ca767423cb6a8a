"""Layers that are computed again in the backward pass give the same gradients, bit for bit, masses included."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
import transformers as tf

from schemas.errors import ModelError
from schemas.models.sentence_layout import SentenceLayout
from schemas.models.token_mass import find_blocks
from trainer.data.batch import Batch
from trainer.student.load import forward, prepare
from trainer.student.recompute import recompute_layers
from trainer.student.sentence_encoder import SentenceEncoder
from trainer.student.states import SecondView, StudentHidden, StudentLogits, StudentMass, StudentPooled, StudentRequest

SIZE = {"vocab_size": 31, "hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2}
WIDE = SIZE | {"intermediate_size": 24, "num_key_value_heads": 2, "initializer_range": 0.5}
MODELS: dict[str, Callable[[], Any]] = {
    "llama": lambda: tf.LlamaForCausalLM(tf.LlamaConfig(**WIDE, attention_dropout=0.2)),
    "gemma2, eager": lambda: tf.Gemma2ForCausalLM(tf.Gemma2Config(**WIDE, head_dim=8, attention_dropout=0.2)),
    "gpt2": lambda: tf.GPT2LMHeadModel(tf.GPT2Config(vocab_size=31, n_embd=16, n_layer=3, n_head=2)),
    "bert": lambda: SentenceEncoder(
        tf.BertModel(tf.BertConfig(**SIZE, intermediate_size=24)), SentenceLayout("mean", True, 16)
    ),
}
OF_CAUSAL: list[StudentRequest[Any]] = [StudentHidden(1), StudentHidden(3), StudentMass(2), StudentLogits()]
OF_ENCODER: list[StudentRequest[Any]] = [StudentPooled(1), StudentPooled(3), SecondView()]


def batch() -> Batch:
    tokens_BS = torch.arange(24).view(2, 12)
    mask_BS = torch.ones_like(tokens_BS, dtype=torch.bool)
    mask_BS[1, 8:] = False
    return Batch(("a", "b"), tokens_BS, mask_BS, mask_BS, tokens_BS, mask_BS, mask_BS, {})


def passed(name: str, again: bool) -> tuple[dict[str, torch.Tensor], torch.Tensor | None, int]:
    """The gradients, the mass, and how often the second layer's feed-forward part ran in training."""
    torch.manual_seed(0)
    model = MODELS[name]().train()
    requests = OF_ENCODER if isinstance(model, SentenceEncoder) else OF_CAUSAL
    prepare(model, requests)
    if again:
        recompute_layers(model)
    runs: list[bool] = []
    block = find_blocks(getattr(model, "model", model) if isinstance(model, SentenceEncoder) else model)[1]
    inner = next(module for key, module in block.named_modules() if key.endswith(("mlp", "intermediate")))
    inner.register_forward_pre_hook(lambda module, _: runs.append(module.training))
    torch.manual_seed(1)
    states = forward(model, batch(), requests)
    mass = states[StudentMass(2)] if StudentMass(2) in requests else None
    read = [states[each] for each in requests if isinstance(each, StudentHidden | StudentPooled | SecondView)]
    if StudentLogits() in requests:
        read.append(states[StudentLogits()].whole())
    torch.stack([(value**3).sum() for value in read]).sum().backward()
    return {key: each.grad for key, each in model.named_parameters() if each.grad is not None}, mass, sum(runs)


@pytest.mark.parametrize("name", MODELS)
def test_gradients_and_masses_are_the_same(name: str) -> None:
    kept, mass, once = passed(name, again=False)
    found, mass_again, twice = passed(name, again=True)
    assert twice == 2 * once
    assert len(found) == len(kept) > 20 and all(torch.equal(found[key], kept[key]) for key in kept)
    assert (mass is None) == (mass_again is None) == (name == "bert")
    if mass is not None and mass_again is not None:
        assert torch.equal(mass, mass_again)


class Plain(tf.LlamaForCausalLM):  # type: ignore[misc]
    """A model whose code knows nothing of it."""

    supports_gradient_checkpointing = False


def test_a_model_that_cannot_is_refused() -> None:
    with pytest.raises(ModelError, match=r"^gradient_checkpointing: Plain does not support .*; leave it out$"):
        recompute_layers(Plain(tf.LlamaConfig(**WIDE)))
