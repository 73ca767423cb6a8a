"""Every number of a GGUF file is loaded, as its blocks say, or the file is refused."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType as Type
from gguf import GGUFReader, GGUFWriter

from schemas.errors import ModelError
from schemas.models.files import resolve_model
from schemas.models.load import load_model
from tests.gguf_files import stored_weights, tiny_gguf, unpacked


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STILLROOM_CACHE", str(tmp_path / "home"))


def test_weights_are_what_the_blocks_say(tmp_path: Path) -> None:
    path = tiny_gguf(tmp_path / "tiny.gguf", layers=1)
    model = load_model(resolve_model(str(path), None), "causal", torch.float32)
    found = stored_weights(model)
    tensors = {tensor.name: tensor for tensor in GGUFReader(path).tensors}
    assert found.keys() == tensors.keys()
    assert {tensor.tensor_type for tensor in tensors.values()} == {Type.F32, Type.Q8_0, Type.Q4_0}
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(found[name].ravel(), unpacked(tensor), err_msg=name)
    model.save_pretrained(tmp_path / "plain")  # an ordinary model from here on
    again = load_model(tmp_path / "plain", "causal", torch.float32)
    assert all(torch.equal(one, other) for one, other in zip(model.parameters(), again.parameters(), strict=True))


def test_a_tensor_that_transformers_leaves_out(tmp_path: Path) -> None:
    def stretch(writer: GGUFWriter) -> None:
        writer.add_tensor("rope_freqs.weight", np.ones(4, np.float32))

    path = tiny_gguf(tmp_path / "llama31.gguf", edit=stretch, layers=1)
    with pytest.raises(ModelError, match=r"holds 4 numbers that transformers does not read, perhaps 'rope_freqs\.weig"):
        load_model(resolve_model(str(path), None), "causal", torch.float32)


def test_a_weight_that_is_not_there(tmp_path: Path) -> None:
    path = tiny_gguf(tmp_path / "tiny.gguf", layers=1)
    path.write_bytes(path.read_bytes().replace(b"blk.0.ffn_up.weight", b"blk.7.ffn_up.weight"))
    with pytest.raises(ModelError, match=r"lacks 1 weights of LlamaForCausalLM, among them model\.layers\.0\.mlp\.up_"):
        load_model(resolve_model(str(path), None), "causal", torch.float32)


def test_a_folder_that_holds_a_gguf_file_says_how(tmp_path: Path) -> None:
    path = tiny_gguf(tmp_path / "tiny.gguf", layers=1)
    shutil.copy(path, tmp_path / "full")
    (tmp_path / "full" / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"holds no weights: .*; or name its tiny\.gguf itself"):
        load_model(resolve_model(str(tmp_path / "full"), None), "causal", torch.float32)
