"""Weights that a model built from config.json has no place for: refused where it cannot do without them."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoConfig,
    AutoModel,
    BertForPreTraining,
    DeepseekV3ForCausalLM,
    GPT2DoubleHeadsModel,
    GPT2LMHeadModel,
    Qwen2ForSequenceClassification,
)

from schemas.errors import ModelError
from schemas.models.load import load_model
from tests.material import MATERIAL, needs_material
from tests.tiny import tiny_llama, tiny_tokenizer

SIZE = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "vocab_size": 64}
GPT2 = {"n_embd": 16, "n_layer": 2, "n_head": 2, "vocab_size": 64}


def edit(folder: Path, **changes: object) -> None:
    path = folder / "config.json"
    stored = {key: value for key, value in json.loads(path.read_text()).items() if key != "layer_types"}
    path.write_text(json.dumps({**stored, **changes}))


def add_weights(folder: Path, **weights: torch.Tensor) -> None:
    path = folder / "model.safetensors"
    save_file({**load_file(path), **weights}, path, metadata={"format": "pt"})


@pytest.fixture
def llama(tmp_path: Path) -> Path:
    tiny_llama(tmp_path / "llama", tiny_tokenizer(tmp_path / "llama"), layers=2)
    return tmp_path / "llama"


def test_layers_beyond_the_config_are_refused(llama: Path) -> None:
    edit(llama, num_hidden_layers=1)
    for kind in ("causal", "encoder"):
        with pytest.raises(
            ModelError, match=r"holds 9 weights .* among them model\.layers\.1\.input_layernorm\.weight"
        ):
            load_model(llama, kind, torch.float32)


def test_layers_beyond_the_config_of_a_body_alone_are_refused(llama: Path, tmp_path: Path) -> None:
    AutoModel.from_pretrained(llama).save_pretrained(tmp_path / "body")  # its weights have no prefix
    edit(tmp_path / "body", num_hidden_layers=1)
    with pytest.raises(ModelError, match=r"holds 9 weights .* among them layers\.1\.input_layernorm\.weight"):
        load_model(tmp_path / "body", "encoder", torch.float32)


@pytest.mark.parametrize("name", ["model.layers.0.self_attn.q_proj.bias", "lm_head.bias", "layers.7.x.lora_A.weight"])
def test_parts_of_a_module_that_the_config_denies_are_refused(llama: Path, name: str) -> None:
    add_weights(llama, **{name: torch.ones(4)})
    with pytest.raises(ModelError, match=rf"holds 1 weights .* among them {name}"):
        load_model(llama, "causal", torch.float32)


@pytest.mark.parametrize(
    "name",
    [
        "model.layers.0.self_attn.rotary_emb.inv_freq",  # computed since
        "model.layers.0.self_attn.masked_bias",
        "model.vision_tower.layers.0.weight",  # of another tower
        "mtp.layers.0.weight",
        "v_head.summary.weight",
    ],
)
def test_what_a_model_can_do_without_is_left_out(llama: Path, name: str) -> None:
    saved = load_file(llama / "model.safetensors")
    add_weights(llama, **{name: torch.ones(4)})
    loaded = load_model(llama, "causal", torch.float32).state_dict()
    assert all(torch.equal(loaded[weight], tensor) for weight, tensor in saved.items())


@pytest.mark.parametrize(
    ("whole", "model_type", "size"),
    [
        (BertForPreTraining, "bert", SIZE),  # a pooler and two heads
        (GPT2LMHeadModel, "gpt2", GPT2),
        (GPT2DoubleHeadsModel, "gpt2", GPT2),
        (Qwen2ForSequenceClassification, "qwen2", SIZE | {"num_key_value_heads": 2}),
    ],
)
def test_heads_of_other_tasks_are_left_out(tmp_path: Path, whole: Any, model_type: str, size: dict[str, int]) -> None:
    made = whole(AutoConfig.for_model(model_type, **size))
    made.save_pretrained(tmp_path)
    found = load_model(tmp_path, "encoder", torch.float32)
    assert all(torch.equal(found.state_dict()[name], tensor) for name, tensor in made.base_model.state_dict().items())


def test_layers_that_predict_further_tokens_are_left_out_if_declared(tmp_path: Path) -> None:
    sparse = {
        "n_routed_experts": 8,
        "n_group": 2,
        "topk_group": 1,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 8,
    }
    ranks = {"q_lora_rank": 8, "kv_lora_rank": 8, "qk_rope_head_dim": 4, "qk_nope_head_dim": 4, "v_head_dim": 4}
    config = AutoConfig.for_model("deepseek_v3", **SIZE, **sparse, **ranks, num_key_value_heads=2)
    DeepseekV3ForCausalLM(config).save_pretrained(tmp_path)
    add_weights(tmp_path, **{"model.layers.2.eh_proj.weight": torch.ones(4)})
    edit(tmp_path, num_nextn_predict_layers=1)
    load_model(tmp_path, "causal", torch.float32)
    edit(tmp_path, num_nextn_predict_layers=0)
    with pytest.raises(ModelError, match=r"among them model\.layers\.2\.eh_proj\.weight"):
        load_model(tmp_path, "causal", torch.float32)


@needs_material
@pytest.mark.parametrize("name", ["stories260K", "babyllama-byte361"])
def test_real_models_load_as_both_kinds(name: str) -> None:
    saved = load_file(MATERIAL / "models" / name / "model.safetensors")
    for prefix, model in (
        ("", load_model(MATERIAL / "models" / name, "causal", torch.float32)),
        ("model.", load_model(MATERIAL / "models" / name, "encoder", torch.float32)),
    ):
        loaded = model.state_dict()
        wanted = {weight.removeprefix(prefix): saved[weight] for weight in saved if weight.startswith(prefix)}
        assert len(wanted) >= 9 and all(torch.equal(loaded[weight], tensor) for weight, tensor in wanted.items())
