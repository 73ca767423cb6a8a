"""Other people's forward passes: errors in one message, and nothing left behind by a check."""

import pytest
import torch
import transformers as tf
from torch import Tensor, nn

from schemas.errors import CacheError, ModelError
from schemas.models.forward import forward_errors, unchanged


class Keeping(nn.Module):
    """A model that changes all that a module can keep."""

    count: Tensor
    table: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("count", torch.zeros(2))
        self.register_buffer("table", torch.zeros(3), persistent=False)
        self.length, self.inner = 4, nn.Dropout()

    def forward(self, x: Tensor) -> Tensor:
        self.count += 1
        self.register_buffer("table", torch.ones(9), persistent=False)
        self.register_buffer("new", torch.ones(1))
        self.length, self.state = 99, x
        dropped: Tensor = self.inner(x)
        return dropped + torch.rand(1)


def test_a_check_changes_nothing() -> None:
    model = Keeping().train()
    table, seed = model.table, torch.random.get_rng_state()
    with unchanged(model):
        assert not any(module.training for module in model.modules())
        model(torch.ones(5))
        assert model.length == 99
    assert model.training and model.inner.training and model.length == 4
    assert model.count.tolist() == [0, 0] and model.table is table
    assert not hasattr(model, "state") and not hasattr(model, "new")
    assert torch.equal(torch.random.get_rng_state(), seed)


def test_a_check_that_fails_changes_nothing_either() -> None:
    model = Keeping()
    with pytest.raises(ValueError, match="no"), unchanged(model):
        model(torch.ones(5))
        raise ValueError("no")
    assert model.length == 4 and model.count.tolist() == [0, 0]


def test_a_rotary_embedding_that_grows_shrinks_again() -> None:
    """Dynamic NTK: a text beyond the model's positions changes the frequencies of all that follow."""
    config = tf.LlamaConfig(
        vocab_size=31, hidden_size=16, intermediate_size=24, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=8, rope_parameters={"rope_type": "dynamic", "factor": 4.0, "rope_theta": 1e4},
    )  # fmt: skip
    model = tf.LlamaModel(config).eval()
    before = model.rotary_emb.inv_freq.clone()
    with unchanged(model), torch.no_grad():
        model(torch.arange(30)[None])
        assert not torch.equal(model.rotary_emb.inv_freq, before)
    assert torch.equal(model.rotary_emb.inv_freq, before)
    assert model.rotary_emb.max_seq_len_cached == 8


def test_hidden_states_are_asked_for_again_after_a_check() -> None:
    """transformers hooks every block when they are first asked for: hooked twice, each would be there twice."""
    config = tf.LlamaConfig(
        vocab_size=31, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2
    )
    model, ids_1T = tf.LlamaForCausalLM(config).eval(), torch.arange(5)[None]
    with unchanged(model):
        first = model(ids_1T, output_hidden_states=True).hidden_states
    assert not any(module._forward_hooks for module in model.modules())
    again = model(ids_1T, output_hidden_states=True).hidden_states
    assert len(first) == len(again) == 3
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


def test_errors_are_one_message() -> None:
    with pytest.raises(ModelError, match=r"^Keeping cannot be run over 9 tokens: index 9 is out of range$"):  # noqa: SIM117
        with forward_errors(Keeping(), "over 9 tokens"):
            raise IndexError("index 9\n  is out of range")
    for error in (CacheError("as it is"), torch.OutOfMemoryError("as it is"), MemoryError("as it is")):
        with pytest.raises(type(error), match=r"^as it is$"), forward_errors(Keeping(), "over 9 tokens"):
            raise error
