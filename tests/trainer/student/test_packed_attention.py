"""Packed equals padded: every state, mass and gradient of models that can, and every loss; the others are refused."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest
import torch
import transformers as tf

from schemas.cache.reader import Cache
from schemas.errors import ModelError
from tests.caches import build_cache, extraction, write_corpus
from tests.tiny import tiny_llama, tiny_tokenizer
from tests.trainer.compared import OBJECTIVES
from tests.trainer.live import loss_and_gradients, setting
from trainer.data.batch import Batch
from trainer.data.packing import Packing
from trainer.data.padding import lengths_mask
from trainer.student.load import forward, prepare
from trainer.student.packed_attention import enable_packing, run_packed
from trainer.student.states import StudentHidden, StudentMass

SMALL: dict[str, Any] = {
    "vocab_size": 31,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 32,
    "initializer_range": 0.5,
}
WIDER = {**SMALL, "intermediate_size": 24, "num_key_value_heads": 2}
WINDOWS = {"head_dim": 8, "sliding_window": 4, "layer_types": ["sliding_attention", "full_attention"]}
PACKED: dict[str, Callable[[], Any]] = {
    "llama": lambda: tf.LlamaForCausalLM(tf.LlamaConfig(**WIDER)),
    "gpt2, positions that are learnt": lambda: tf.GPT2LMHeadModel(tf.GPT2Config(**SMALL, resid_pdrop=0.0)),
    "mistral, all layers see a window": lambda: tf.MistralForCausalLM(tf.MistralConfig(**WIDER, sliding_window=4)),
    "gemma3, some do": lambda: tf.Gemma3ForCausalLM(tf.Gemma3TextConfig(**WIDER, **WINDOWS)),
}
REFUSED: dict[str, Callable[[], Any]] = {
    "mamba": lambda: tf.MambaForCausalLM(tf.MambaConfig(vocab_size=31, hidden_size=16, num_hidden_layers=2)),
    "bloom": lambda: tf.BloomForCausalLM(tf.BloomConfig(vocab_size=31, hidden_size=16, n_layer=2, n_head=2)),
    "gemma2": lambda: tf.Gemma2ForCausalLM(tf.Gemma2Config(**WIDER, head_dim=8)),
}
LENGTHS = (3, 9, 1, 7)
REQUESTS = {StudentHidden(0), StudentHidden(1), StudentHidden(2), StudentMass(1), StudentMass(2)}


def batch_of(lengths: tuple[int, ...]) -> Batch:
    """Random tokens, whose padding is other tokens than 0."""
    tokens = torch.randint(3, 31, (len(lengths), max(lengths)), generator=torch.Generator().manual_seed(0))
    mask = lengths_mask(lengths, max(lengths))
    return Batch(tuple(map(str, lengths)), tokens, mask, mask, tokens, mask, mask, {})


def measured(model: Any, batch: Batch) -> dict[str, torch.Tensor]:
    """What is asked for at real tokens, and the gradient of the states' squares."""
    states = forward(model, batch, REQUESTS)
    found = {str(request): states[request][batch.mask_BS] for request in REQUESTS}
    model.zero_grad(set_to_none=True)
    torch.cat([found[str(StudentHidden(layer))] for layer in (1, 2)]).square().sum().backward()
    return found | {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("name", PACKED)
def test_packed_states_masses_and_gradients_are_those_of_padded_texts(name: str) -> None:
    torch.manual_seed(0)
    model, batch = PACKED[name]().double().eval(), batch_of(LENGTHS)
    prepare(model, REQUESTS)
    padded = measured(model, batch)
    enable_packing(model)
    assert all(torch.equal(value, padded[key]) for key, value in measured(model, batch).items())
    packed = measured(model, replace(batch, packing=Packing.of(LENGTHS, max(LENGTHS))))
    assert packed.keys() == padded.keys()
    for key, value in packed.items():
        assert (value - padded[key]).abs().max() <= 1e-6 * padded[key].abs().max().clamp(min=1e-6), key


def test_what_is_computed_again_in_the_backward_pass_is_packed_as_before() -> None:
    torch.manual_seed(0)
    model, batch = PACKED["gemma3, some do"]().double(), batch_of(LENGTHS)
    prepare(model, REQUESTS)
    enable_packing(model)
    packed = replace(batch, packing=Packing.of(LENGTHS, max(LENGTHS)))
    wanted = measured(model, packed)
    model.activation_checkpointing_enable()
    assert all((value - wanted[key]).abs().max() < 1e-12 for key, value in measured(model, packed).items())


@pytest.mark.parametrize("name", REFUSED)
def test_models_whose_texts_would_see_each_other_are_refused_and_left_as_they_were(name: str) -> None:
    torch.manual_seed(0)
    model, batch = REFUSED[name](), batch_of((4, 6))
    before = model(input_ids=batch.tokens_BS, use_cache=False).logits
    with pytest.raises(ModelError, match="cannot be packed"):
        enable_packing(model)
    assert torch.equal(model(input_ids=batch.tokens_BS, use_cache=False).logits, before)
    with pytest.raises(ModelError, match="was not enabled"):
        run_packed(model, batch.tokens_BS, Packing.of((4, 6), 6))


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    folder = tmp_path_factory.mktemp("packed")
    tiny_llama(folder / "teacher", tiny_tokenizer(folder / "teacher", "bpe"))
    corpus = write_corpus(folder / "corpus.jsonl")
    return Cache(
        build_cache(extraction(folder / "cache", folder / "teacher", corpus, teacher={"keep_embeddings": True}))
    )


@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_loss_is_the_same_packed(cache: Cache, name: str) -> None:
    shared, _, objective, batch = setting(cache, OBJECTIVES[name], cross=False)
    model = deepcopy(shared)  # its attention stays another
    padded = loss_and_gradients(model, objective, batch)
    objective.zero_grad()
    enable_packing(model)
    lengths = (batch.mask_BS | batch.target_BS).sum(1).tolist()
    assert len(set(lengths)) > 2
    packed = loss_and_gradients(model, objective, replace(batch, packing=Packing.of(lengths, max(lengths))))
    assert packed[0] == pytest.approx(padded[0], rel=1e-6)
    for one, other in zip(padded[1], packed[1], strict=True):
        assert (one - other).norm() <= 1e-5 * one.norm()  # float32
