"""Models that are saved quantised: described, unpacked or refused in words. Packages for them are not needed here."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import LlamaForCausalLM

from schemas.errors import ModelError
from schemas.models.load import build_on_meta, load_model
from schemas.models.quantised import describe_quantisation, require_steady, runs_quantised, set_dtype
from tests.tiny import tiny_llama, tiny_tokenizer

NF4 = {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}
INT8 = {"quant_method": "bitsandbytes", "load_in_8bit": True}
INT8_BY_TORCHAO = {"quant_method": "torchao", "quant_type": {"default": {"_type": "Int8WeightOnlyConfig"}}}


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("full")
    tiny_llama(folder, tiny_tokenizer(folder), layers=1)
    return folder


def saying(full: Path, folder: Path, settings: Any) -> Path:
    """The folder of a model whose config.json says that it is quantised so."""
    folder.mkdir()
    config = json.loads((full / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"quantization_config": settings}))
    (folder / "model.safetensors").symlink_to(full / "model.safetensors")
    return folder


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (NF4, "bitsandbytes nf4"),
        (INT8, "bitsandbytes int8"),
        (INT8_BY_TORCHAO, "torchao Int8WeightOnly"),
        ({"quant_method": "gptq", "bits": 4}, "gptq 4 bits"),
        ({"quant_method": "mxfp4"}, "mxfp4"),
        (None, None),
    ],
)
def test_words(settings: Any, words: str | None, full: Path, tmp_path: Path) -> None:
    assert describe_quantisation(saying(full, tmp_path / "model", settings)) == words


@pytest.mark.parametrize("part", ["abc", [1], 7, None, {}])
def test_the_config_of_a_text_model_that_is_none_says_nothing(part: Any, full: Path, tmp_path: Path) -> None:
    folder = saying(full, tmp_path / "model", None)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"text_config": part}))
    assert describe_quantisation(folder) is None
    (folder / "config.json").write_text(json.dumps(config | {"text_config": {"quantization_config": INT8}}))
    assert describe_quantisation(folder) == "bitsandbytes int8"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"quant_method": "gptq", "bits": 4}, r"is quantised \(gptq 4 bits\): .*(gptqmodel|optimum).*full model"),
        ({"quant_method": "quanto", "weights": "int8"}, r"is quantised \(quanto\): .*optimum-quanto.*full model"),
        ({"quant_method": "made-up"}, r"is quantised by 'made-up', which transformers does not know here; or give"),
        ({"quant_method": "eetq"}, r"is run by compiled code from the hub: set `trust_remote_code: true`"),
    ],
)
def test_what_cannot_be_run_here(settings: Any, message: str, full: Path, tmp_path: Path) -> None:
    folder = saying(full, tmp_path / "model", settings)
    with pytest.raises(ModelError, match=message):
        build_on_meta(folder, "causal", False)
    with pytest.raises(ModelError, match=message):
        load_model(folder, "causal", torch.float32)


def test_activations_that_depend_on_the_batch(full: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"is quantised by LLM\.int8 .*set llm_int8_threshold to 0 in its config"):
        require_steady(saying(full, tmp_path / "int8", INT8))
    require_steady(saying(full, tmp_path / "rows", INT8 | {"llm_int8_threshold": 0.0}))
    require_steady(saying(full, tmp_path / "nf4", NF4))
    require_steady(full)


def test_fp8_is_unpacked_as_its_blocks_say(full: Path, tmp_path: Path) -> None:
    """transformers would fetch compiled code for it on a GPU. Blocks of 16 x 16 have one scale each."""
    settings = {"quant_method": "fp8", "activation_scheme": "dynamic", "weight_block_size": [16, 16]}
    folder = saying(full, tmp_path / "fp8", settings)
    packed, wanted = dict[str, torch.Tensor](), dict[str, torch.Tensor]()
    torch.manual_seed(1)
    for name, weight in load_file(full / "model.safetensors").items():
        packed[name] = wanted[name] = weight
        if "_proj" in name:
            packed[name] = weight.to(torch.float8_e4m3fn)
            scales = packed[f"{name}_scale_inv"] = torch.rand(weight.shape[0] // 16, weight.shape[1] // 16) + 0.5
            wanted[name] = packed[name].float() * scales.repeat_interleave(16, 0).repeat_interleave(16, 1)
    (folder / "model.safetensors").unlink()
    save_file(packed, folder / "model.safetensors", {"format": "pt"})
    assert not runs_quantised(folder, False) and runs_quantised(folder, True)
    model = load_model(folder, "causal", torch.float32)
    assert model.state_dict().keys() == wanted.keys()
    for name, weight in model.state_dict().items():
        torch.testing.assert_close(weight, wanted[name], rtol=1e-6, atol=0, msg=name)
    assert type(model.model.layers[0].mlp.up_proj) is nn.Linear and not getattr(model, "is_quantized", False)


def test_what_is_not_packed_takes_the_dtype(full: Path) -> None:
    model = LlamaForCausalLM.from_pretrained(full)
    model.lm_head.weight = nn.Parameter(torch.zeros(2, 2, dtype=torch.uint8), requires_grad=False)
    model._keep_in_fp32_modules_strict = {"norm"}
    set_dtype(model, torch.bfloat16)
    found = {name: parameter.dtype for name, parameter in model.named_parameters()}
    assert found.pop("model.norm.weight") == torch.float32 and found.pop("lm_head.weight") == torch.uint8
    assert set(found.values()) == {torch.bfloat16}
