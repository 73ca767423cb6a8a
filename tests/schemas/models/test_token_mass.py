"""Token masses against the attention maps that transformers' own eager attention returns."""

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import transformers as tf
from torch import Tensor

import schemas.models.attention_readings as attention_readings
from schemas.errors import ModelError
from schemas.models.token_mass import Mode, collect_token_mass, enable_token_mass, find_blocks

VOCAB, WIDTH, LAYERS = 61, 32, 3
LENGTHS = (11, 7, 2, 11)
COMMON = {"vocab_size": VOCAB, "hidden_size": WIDTH, "num_hidden_layers": LAYERS, "num_attention_heads": 4}
PLAIN = {**COMMON, "intermediate_size": 48, "max_position_embeddings": 64, "initializer_range": 0.3}
SLIDING_FIRST = ["sliding_attention", "full_attention", "sliding_attention"]

CAUSAL: dict[str, Callable[[], tf.PreTrainedModel]] = {
    "llama": lambda: tf.LlamaForCausalLM(tf.LlamaConfig(**PLAIN, num_key_value_heads=2)),
    "qwen2": lambda: tf.Qwen2ForCausalLM(tf.Qwen2Config(**PLAIN, num_key_value_heads=1)),
    "mistral": lambda: tf.MistralForCausalLM(tf.MistralConfig(**PLAIN, num_key_value_heads=2, sliding_window=4)),
    "gpt2": lambda: tf.GPT2LMHeadModel(
        tf.GPT2Config(
            vocab_size=VOCAB, n_embd=WIDTH, n_layer=LAYERS, n_head=4, n_positions=64, initializer_range=0.4,
            scale_attn_by_inverse_layer_idx=True, attn_pdrop=0.5, resid_pdrop=0.0, embd_pdrop=0.0,
        )
    ),
    "opt": lambda: tf.OPTForCausalLM(
        tf.OPTConfig(
            **COMMON, ffn_dim=48, max_position_embeddings=64, word_embed_proj_dim=WIDTH, init_std=0.4, dropout=0.0
        )
    ),
    "gpt_neox": lambda: tf.GPTNeoXForCausalLM(tf.GPTNeoXConfig(**PLAIN)),
    "gemma2": lambda: tf.Gemma2ForCausalLM(
        tf.Gemma2Config(
            **PLAIN, num_key_value_heads=2, head_dim=8, sliding_window=4, layer_types=SLIDING_FIRST,
            attn_logit_softcapping=2.0, attention_dropout=0.5,
        )
    ),
    "gemma3": lambda: tf.Gemma3ForCausalLM(
        tf.Gemma3TextConfig(**PLAIN, num_key_value_heads=1, head_dim=8, sliding_window=4, layer_types=SLIDING_FIRST)
    ),
    "gpt_oss": lambda: tf.GptOssForCausalLM(
        tf.GptOssConfig(
            **PLAIN, num_key_value_heads=2, head_dim=8, sliding_window=4, layer_types=SLIDING_FIRST,
            num_local_experts=2, num_experts_per_tok=1,
        )
    ),
}  # fmt: skip
ENCODERS: dict[str, Callable[[], tf.PreTrainedModel]] = {
    "bert": lambda: tf.BertModel(tf.BertConfig(**PLAIN), add_pooling_layer=False),
    "distilbert": lambda: tf.DistilBertModel(
        tf.DistilBertConfig(
            vocab_size=VOCAB, dim=WIDTH, hidden_dim=48, n_layers=LAYERS, n_heads=4, initializer_range=0.3
        )
    ),
    "modernbert": lambda: tf.ModernBertModel(
        tf.ModernBertConfig(
            **PLAIN, layer_types=SLIDING_FIRST, local_attention=4, pad_token_id=0, bos_token_id=1, eos_token_id=2,
            cls_token_id=1, sep_token_id=2,
        )
    ),
}  # fmt: skip


def build(make: Callable[[], tf.PreTrainedModel]) -> tuple[tf.PreTrainedModel, tf.PreTrainedModel]:
    """The same random model twice: with token masses, and with eager attention."""
    torch.manual_seed(0)
    model = make().eval()
    eager = copy.deepcopy(model)
    eager.set_attn_implementation("eager")
    enable_token_mass(model)
    return model, eager


def inputs(side: str) -> dict[str, Tensor]:
    T = max(LENGTHS)
    torch.manual_seed(1)
    ids_BT = torch.randint(3, VOCAB, (len(LENGTHS), T))
    mask_BT = torch.stack([torch.arange(T) < n for n in LENGTHS])
    if side == "left":
        mask_BT = mask_BT.flip(1)
    return {"input_ids": ids_BT, "attention_mask": mask_BT.long()}


def expected(attention_BHTT: Tensor, mask_BT: Tensor, mode: Mode) -> Tensor:
    """The definition, a sample at a time, from a full attention map."""
    mass_BT = torch.zeros(mask_BT.shape, dtype=torch.float64)
    for b, mask_T in enumerate(mask_BT.bool()):
        real = mask_T.nonzero()[:, 0]
        rows = real[-1:] if mode == "last" else real
        received = attention_BHTT[b].double()[:, rows].sum((0, 1))[real]
        mass_BT[b, real] = received / received.sum()
    return mass_BT


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
