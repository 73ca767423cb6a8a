"""Token masses against the attention maps that transformers' own eager attention returns."""

import copy
from pathlib import Path

import pytest
import torch
import transformers as tf

import schemas.models.attention_readings as attention_readings
from schemas.errors import ModelError
from schemas.models.token_mass import Mode, collect_token_mass, enable_token_mass, find_blocks
from tests.schemas.models.attending import CAUSAL, ENCODERS, LAYERS, PLAIN, VOCAB, build, expected, inputs


@pytest.mark.parametrize("side", ["right", "left"])
@pytest.mark.parametrize("name", [*CAUSAL, *ENCODERS])
def test_masses_are_those_of_eager_attention_and_states_stay_the_same(name: str, side: str) -> None:
    mode: Mode = "last" if name in CAUSAL else "received"
    model, eager = build({**CAUSAL, **ENCODERS}[name])
    batch = inputs(side)
    with torch.no_grad():
        want = eager(**batch, output_attentions=True, output_hidden_states=True)
        with collect_token_mass(range(1, LAYERS + 1), batch["attention_mask"], mode) as masses:
            got = model(**batch, output_hidden_states=True)
        native = "sdpa" if model._supports_sdpa else "eager"
        model.set_attn_implementation(native)
        plain = model(**batch, output_hidden_states=True)
    assert sorted(masses) == [1, 2, 3]
    for layer, mass_BT in masses.items():
        reference = expected(want.attentions[layer - 1], batch["attention_mask"], mode)
        assert mass_BT.dtype == torch.float32
        assert (mass_BT - reference).abs().max() < 1e-6
        assert torch.equal(mass_BT == 0, (batch["attention_mask"] == 0) | (reference == 0))
        assert reference.max() > 0.3  # a mass that is far from uniform, or the test would prove little
    for a, b in zip(got.hidden_states, plain.hidden_states, strict=True):
        assert torch.equal(a, b)
    if name in CAUSAL:
        assert torch.equal(got.logits, plain.logits)


@pytest.mark.parametrize("name", ["llama", "mistral", "opt"])
def test_without_an_attention_mask_right_padding_gives_the_same(name: str) -> None:
    model, _ = build(CAUSAL[name])
    batch = inputs("right")
    with torch.no_grad():
        with collect_token_mass({1, 3}, batch["attention_mask"], "last") as masked:
            model(**batch)
        with collect_token_mass({1, 3}, batch["attention_mask"], "last") as unmasked:
            model(input_ids=batch["input_ids"])
    assert sorted(unmasked) == [1, 3]
    for layer in (1, 3):
        assert (masked[layer] - unmasked[layer]).abs().max() < 1e-6


def test_received_under_a_causal_mask() -> None:
    model, eager = build(CAUSAL["llama"])
    ids_BT = inputs("right")["input_ids"]
    mask_BT = torch.ones_like(ids_BT)
    with torch.no_grad(), collect_token_mass({2}, mask_BT, "received") as masses:
        model(input_ids=ids_BT)
    reference = expected(eager(input_ids=ids_BT, output_attentions=True).attentions[1], mask_BT, "received")
    assert (masses[2] - reference).abs().max() < 1e-6


def test_blocks_of_one_row_give_the_same_received_mass(monkeypatch: pytest.MonkeyPatch) -> None:
    model, _ = build(ENCODERS["modernbert"])
    batch = inputs("left")
    with torch.no_grad():
        with collect_token_mass({1, 2}, batch["attention_mask"], "received") as whole:
            model(**batch)
        monkeypatch.setattr(attention_readings, "_CPU_BLOCK", 1)
        with collect_token_mass({1, 2}, batch["attention_mask"], "received") as blocked:
            model(**batch)
    for layer in (1, 2):
        assert (whole[layer] - blocked[layer]).abs().max() < 1e-7


@pytest.mark.parametrize("name", ["gpt2", "gemma2"])
def test_training_leaves_gradients_alone_and_masses_free_of_dropout(name: str) -> None:
    model, eager = build(CAUSAL[name])
    batch = inputs("right")
    reference = eager(**batch, output_attentions=True).attentions[0]
    model.train()
    torch.manual_seed(7)
    with collect_token_mass({1}, batch["attention_mask"], "last") as masses:
        collected = model(**batch).logits
    torch.manual_seed(7)
    alone = model(**batch).logits
    assert torch.equal(collected, alone)  # the probe drew no random number of its own
    assert not masses[1].requires_grad
    assert (masses[1] - expected(reference, batch["attention_mask"], "last")).abs().max() < 1e-6
    collected.sum().backward()
    assert all(p.grad is not None for p in model.parameters())


def test_under_autocast_the_mass_is_computed_in_float32() -> None:
    model, eager = build(CAUSAL["llama"])
    batch = inputs("right")
    with torch.no_grad():
        attention = eager(**batch, output_attentions=True).attentions[0]
        with torch.autocast("cpu", torch.bfloat16), collect_token_mass({1}, batch["attention_mask"], "last") as masses:
            model(**batch)
    reference = expected(attention, batch["attention_mask"], "last")
    assert masses[1].dtype == torch.float32
    assert (masses[1].sum(1) - 1).abs().max() < 1e-6
    assert (masses[1] - reference).abs().max() < 0.05  # queries and keys were bfloat16


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")  # read by peft
def test_peft_students_and_saved_configs(tmp_path: Path) -> None:
    peft = pytest.importorskip("peft")
    model, eager = build(CAUSAL["llama"])
    batch = inputs("left")
    student = peft.get_peft_model(copy.deepcopy(eager), peft.LoraConfig(r=2, target_modules=["q_proj"]))
    enable_token_mass(student)
    with torch.no_grad():
        with collect_token_mass({2}, batch["attention_mask"], "last") as masses:
            student(**batch)
        reference = expected(eager(**batch, output_attentions=True).attentions[1], batch["attention_mask"], "last")
    assert (masses[2] - reference).abs().max() < 1e-6
    model.save_pretrained(tmp_path)
    assert "token_mass" not in (tmp_path / "config.json").read_text()


def test_layers_without_a_mass_are_named() -> None:
    model, _ = build(CAUSAL["llama"])
    batch = inputs("right")
    with pytest.raises(ModelError, match="layer 4 of LlamaForCausalLM"), torch.no_grad():  # noqa: SIM117
        with collect_token_mass({1, 4}, batch["attention_mask"], "last"):
            model(**batch)
    mamba = tf.MambaForCausalLM(tf.MambaConfig(vocab_size=VOCAB, hidden_size=16, num_hidden_layers=2, state_size=4))
    enable_token_mass(mamba)
    with pytest.raises(ModelError, match="layer 1 of the model"), torch.no_grad():  # noqa: SIM117
        with collect_token_mass({1}, batch["attention_mask"], "last"):
            mamba(input_ids=batch["input_ids"])


def test_attention_that_cannot_be_switched_is_refused() -> None:
    gpt = tf.OpenAIGPTLMHeadModel(tf.OpenAIGPTConfig(vocab_size=VOCAB, n_embd=32, n_layer=1, n_head=4, n_positions=32))
    with pytest.raises(ModelError, match="OpenAIGPTLMHeadModel does not use"):
        enable_token_mass(gpt)


def test_a_pass_over_a_cache_is_refused() -> None:
    model, _ = build(CAUSAL["llama"])
    ids_BT = inputs("right")["input_ids"]
    with pytest.raises(ModelError, match="attends from 1 to 12 positions, but the batch has 11"):  # noqa: SIM117
        with collect_token_mass({1}, torch.ones_like(ids_BT), "last"):
            model.generate(input_ids=ids_BT, max_new_tokens=2, do_sample=False, use_cache=True, pad_token_id=0)


def test_an_error_inside_is_passed_on_and_ends_the_collection() -> None:
    model, _ = build(CAUSAL["llama"])
    batch = inputs("right")
    with pytest.raises(KeyError, match="mine"):  # noqa: SIM117
        with collect_token_mass({1}, batch["attention_mask"], "last") as masses:
            raise KeyError("mine")
    model(**batch)
    assert masses == {}


def test_find_blocks() -> None:
    model, _ = build(CAUSAL["gpt2"])
    assert find_blocks(model) is model.transformer.h
    albert = tf.AlbertModel(tf.AlbertConfig(**PLAIN, embedding_size=8))
    with pytest.raises(ModelError, match="AlbertModel has no list of 3 blocks"):
        find_blocks(albert)
