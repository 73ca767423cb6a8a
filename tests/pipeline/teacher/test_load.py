"""A teacher's folder is loaded whole, or refused in words."""

import shutil
from pathlib import Path

import pytest
import torch

from schemas.errors import ModelError
from tests.pipeline.teacher.tiny_models import (
    edit_config,
    edit_weights,
    load,
)


def test_damaged_folders(llama: Path, tmp_path: Path) -> None:
    def lose(weights: dict[str, torch.Tensor]) -> None:
        del weights["model.layers.1.mlp.up_proj.weight"]

    with pytest.raises(
        ModelError, match=r"lacks 1 weights of LlamaForCausalLM, among them model\.layers\.1\.mlp\.up_proj"
    ):
        load(edit_weights(llama, tmp_path / "lost", lose))
    with pytest.raises(ModelError, match=r"do not fit its config.json: .* is \[.*\] instead of \["):
        load(edit_config(llama, tmp_path / "shape", intermediate_size=48))
    with pytest.raises(ModelError, match=r"cannot build a causal language model from .*foo"):
        load(edit_config(llama, tmp_path / "type", model_type="foo"))
    auto_map = {"AutoConfig": "modeling_x.C", "AutoModelForCausalLM": "modeling_x.X"}
    with pytest.raises(ModelError, match=r"own code: set `trust_remote_code: true`"):
        load(edit_config(llama, tmp_path / "remote", model_type="x", auto_map=auto_map))
    folder = Path(shutil.copytree(llama, tmp_path / "corrupt"))
    weights = folder / "model.safetensors"
    weights.write_bytes(b"\xff" * weights.stat().st_size)
    with pytest.raises(ModelError, match=r"cannot load a causal language model from"):
        load(folder)
    (folder / "config.json").unlink()
    with pytest.raises(ModelError, match=r"is not a model folder: there is no config\.json"):
        load(folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="holds no weights"):
        load(folder)
