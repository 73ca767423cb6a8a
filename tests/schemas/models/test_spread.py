"""Weights of a model that accelerate has spread are at hand wherever they lie."""

from pathlib import Path
from types import SimpleNamespace

import torch
from transformers import LlamaForCausalLM

from schemas.models.logits import find_head
from schemas.models.spread import at_hand, main_device
from tests.tiny import tiny_llama, tiny_tokenizer


def test_a_weight_on_disk_is_read_from_there(tmp_path: Path) -> None:
    whole = tiny_llama(tmp_path, tiny_tokenizer(tmp_path))
    places = {"model": "cpu", "lm_head": "disk"}
    spread = LlamaForCausalLM.from_pretrained(tmp_path, device_map=places, offload_folder=tmp_path / "offloaded")
    assert spread.lm_head.weight.is_meta and not spread.model.norm.weight.is_meta
    weight, bias = find_head(spread)
    assert torch.equal(weight, whole.lm_head.weight) and bias is None
    assert at_hand(whole, whole.lm_head, "weight") is whole.lm_head.weight
    assert at_hand(spread, spread.model.norm, "weight").data_ptr() == spread.model.norm.weight.data_ptr()


def test_states_come_out_on_the_first_gpu_or_else_the_cpu(tmp_path: Path) -> None:
    assert main_device(SimpleNamespace(device=torch.device("cpu"))) == torch.device("cpu")
    places = {"model.layers.0": 1, "model.embed": 0, "model.layers.1": "cpu", "lm_head": "disk"}
    assert main_device(SimpleNamespace(hf_device_map=places)) == torch.device("cuda", 0)
    assert main_device(SimpleNamespace(hf_device_map={"a": "cpu", "b": "disk"})) == torch.device("cpu")
