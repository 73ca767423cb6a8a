"""How long a text a model takes, against what its own forward pass takes."""

from collections.abc import Callable

import pytest
import torch
import transformers as tf

from schemas.errors import ModelError
from schemas.models.positions import (
    known_tokens,
    probe_ids,
    prove_positions,
    require_positions,
    require_tokens,
    steady_positions,
    usable_positions,
)

SMALL = {
    "vocab_size": 31,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
}
MODELS: dict[str, tuple[Callable[[], tf.PreTrainedModel], int | None]] = {
    "bert": (lambda: tf.BertModel(tf.BertConfig(**SMALL, max_position_embeddings=20)), 20),
    "roberta": (lambda: tf.RobertaModel(tf.RobertaConfig(**SMALL, max_position_embeddings=20, pad_token_id=1)), 18),
    "xlm-roberta": (
        lambda: tf.XLMRobertaModel(tf.XLMRobertaConfig(**SMALL, max_position_embeddings=66, pad_token_id=1)),
        64,
    ),
    "mpnet": (lambda: tf.MPNetModel(tf.MPNetConfig(**SMALL, max_position_embeddings=20, pad_token_id=1)), 18),
    "gpt2": (lambda: tf.GPT2Model(tf.GPT2Config(vocab_size=31, n_embd=16, n_layer=1, n_head=2, n_positions=20)), 20),
    "opt": (
        lambda: tf.OPTForCausalLM(
            tf.OPTConfig(vocab_size=31, hidden_size=16, ffn_dim=24, num_hidden_layers=1, num_attention_heads=2,
                         max_position_embeddings=20, word_embed_proj_dim=16)
        ),
        20,
    ),
    "mpt": (
        lambda: tf.MptForCausalLM(tf.MptConfig(vocab_size=31, d_model=16, n_heads=2, n_layers=1, max_seq_len=20)),
        20,
    ),
}  # fmt: skip
UNBOUNDED: dict[str, Callable[[], tf.PreTrainedModel]] = {
    "mamba": lambda: tf.MambaForCausalLM(
        tf.MambaConfig(vocab_size=31, hidden_size=16, num_hidden_layers=1, state_size=4)
    ),
    "bloom": lambda: tf.BloomForCausalLM(tf.BloomConfig(vocab_size=31, hidden_size=16, n_layer=1, n_head=2)),
    "xlnet": lambda: tf.XLNetModel(tf.XLNetConfig(vocab_size=31, d_model=16, n_layer=1, n_head=2, d_inner=24)),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_limit_is_the_longest_text_that_the_model_runs(name: str) -> None:
    make, limit = MODELS[name]
    model = make()
    assert usable_positions(model) == limit
    assert limit is not None
    prove_positions(model, limit, "max_tokens")
    with pytest.raises(ModelError, match=rf"cannot be run over {limit + 1} tokens \(max_tokens\): "):
        prove_positions(model, limit + 1, "max_tokens")
    require_positions(model, limit, "max_tokens", "the model")
    with pytest.raises(ModelError, match=f"^max_tokens is {limit + 1}, but it has only {limit} positions; set at most"):
        require_positions(model, limit + 1, "max_tokens", "it")


@pytest.mark.parametrize("name", UNBOUNDED)
def test_models_without_a_limit(name: str) -> None:
    model = UNBOUNDED[name]()
    assert usable_positions(model) is None
    require_positions(model, 10**9, "max_tokens", "it")
    prove_positions(model, 70, "max_tokens")


def test_the_id_table_counts_not_the_config() -> None:
    model = MODELS["bert"][0]()
    model.resize_token_embeddings(40)
    model.config.vocab_size = 31
    assert known_tokens(model) == 40
    require_tokens(model, 39, "it")
    with pytest.raises(ModelError, match=r"^sample 'x' has token 40, but BertModel knows 40; give the tokenizer"):
        require_tokens(model, 40, "sample 'x'")


def test_probes_are_never_padding() -> None:
    for name, (make, _) in MODELS.items():
        model = make()
        ids_T = probe_ids(model, 200)
        assert ids_T.max() < 31 and model.config.pad_token_id not in ids_T.tolist() and len(ids_T.unique()) > 20, name


def test_a_proof_leaves_the_model_as_it_was() -> None:
    model = MODELS["bert"][0]().train()
    model.encoder.eval()
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    prove_positions(model, 20, "max_tokens")
    assert torch.equal(torch.random.get_rng_state(), before)
    assert model.training and not model.encoder.training and model.embeddings.training
    assert steady_positions(model) is None
