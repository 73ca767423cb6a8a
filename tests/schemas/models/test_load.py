"""Nothing foreign is read or run: weights by plain names, no pickles, no kernels, no embedded adapters."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers.integrations import hub_kernels

from schemas.errors import ModelError
from schemas.models.load import build_on_meta, load_model, read_config
from schemas.models.weights import find_weights
from tests.schemas.models.editing import edit


def through_an_index(folder: Path, name: str) -> None:
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    index = {"metadata": {}, "weight_map": dict.fromkeys(weights, name)}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


@pytest.mark.parametrize(
    "name",
    ["pytorch_model.bin", "../other/model.safetensors", "/etc/x.safetensors", "a/b.safetensors", ".safetensors", "x\n"],
)
def test_an_index_lists_safetensors_of_its_own_folder_alone(copy: Path, name: str) -> None:
    """Even where the file is there: transformers would unpickle it, or read it from wherever it lies."""
    target = copy / name
    if name in ("pytorch_model.bin", "../other/model.safetensors", "a/b.safetensors"):
        target.parent.mkdir(exist_ok=True)
        torch.save(load_file(copy / "model.safetensors"), target)
    through_an_index(copy, name)
    for refuse in (find_weights, lambda folder: load_model(folder, "causal", torch.float32)):
        with pytest.raises(ModelError, match=r"model\.safetensors\.index\.json lists .*; only safetensors in the"):
            refuse(copy)


def test_an_index_of_plain_names_is_followed(copy: Path, model: Path) -> None:
    weights = load_file(copy / "model.safetensors")
    through_an_index(copy, "model-00001-of-00001.safetensors")
    save_file(weights, copy / "model-00001-of-00001.safetensors", metadata={"format": "pt"})
    loaded, whole = (load_model(folder, "causal", torch.float32).state_dict() for folder in (copy, model))
    assert all(torch.equal(loaded[name], tensor) for name, tensor in whole.items())


def test_weights_that_a_config_names_are_refused(copy: Path) -> None:
    (copy / "model.safetensors").rename(copy / "other.safetensors")
    shutil.copy(copy / "other.safetensors", copy / "model.safetensors")
    edit(copy / "config.json", transformers_weights="other.safetensors")
    with pytest.raises(ModelError, match="names weights of its own"):
        load_model(copy, "causal", torch.float32)


@pytest.mark.parametrize("name", ["shard-00000-model-00001-of-00001.safetensors", "adapter_config.json"])
def test_what_would_be_read_beside_or_before_the_weights_is_refused(copy: Path, name: str) -> None:
    (copy / name).write_text('{"peft_type": "LORA", "base_model_name_or_path": "elsewhere"}')
    with pytest.raises(ModelError, match=name):
        load_model(copy, "causal", torch.float32)


@pytest.mark.parametrize("key", ["attn_implementation", "_attn_implementation"])
@pytest.mark.parametrize("value", ["someone/kernel", "kernels-community/flash-attn2", "flash_attention_2"])
def test_attention_kernels_that_a_config_names_are_left_out(copy: Path, model: Path, key: str, value: str) -> None:
    edit(copy / "config.json", **{key: value})
    assert build_on_meta(copy, "causal", False).config._attn_implementation == "sdpa"
    found = load_model(copy, "causal", torch.float32)
    assert found.config._attn_implementation == "sdpa"
    ids_1T = torch.arange(9)[None]
    with torch.no_grad():
        assert torch.equal(found(ids_1T).logits, load_model(model, "causal", torch.float32)(ids_1T).logits)


def test_attention_that_transformers_has_itself_is_as_the_config_says(copy: Path) -> None:
    edit(copy / "config.json", attn_implementation="eager")
    assert read_config(copy, "causal", False)._attn_implementation == "eager"


def test_kernels_of_the_hub_are_off_without_the_switch(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As it would be with the package `kernels`, which has them on."""
    monkeypatch.setattr(hub_kernels, "_kernels_enabled", True)
    monkeypatch.setattr(hub_kernels, "is_kernels_available", lambda *args: True)
    monkeypatch.setattr(hub_kernels, "get_kernel", lambda *args, **kwargs: pytest.fail("a kernel was fetched"))
    read_config(model, "causal", False)
    assert hub_kernels.lazy_load_kernel("causal-conv1d", {}) is None


OWN_CODE = "open({path!r}, 'w')\nfrom transformers import LlamaConfig as C, LlamaForCausalLM as X\n"


@pytest.mark.parametrize("model_type", ["llama", "not-one-of-theirs"])
def test_code_of_a_folder_is_not_run_without_the_switch(copy: Path, tmp_path: Path, model_type: str) -> None:
    (copy / "modeling_x.py").write_text(OWN_CODE.format(path=str(tmp_path / "it ran")))
    auto_map = {"AutoConfig": "modeling_x.C", "AutoModelForCausalLM": "modeling_x.X"}
    edit(copy / "config.json", model_type=model_type, auto_map=auto_map)
    if model_type == "llama":
        load_model(copy, "causal", torch.float32)  # transformers has a model of that type, and takes it
    else:
        with pytest.raises(ModelError, match=r"it brings its own code: set `trust_remote_code: true`"):
            load_model(copy, "causal", torch.float32)
    assert not (tmp_path / "it ran").exists()
