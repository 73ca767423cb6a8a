"""The weight files of a folder, or why there are none."""

import json
from pathlib import Path

import pytest

from schemas.errors import ModelError
from schemas.models.hashes import hash_model
from schemas.models.weights import find_weights


@pytest.mark.parametrize("weight_map", [[], {"a": 1}, None, "model.safetensors"])
def test_a_damaged_index_is_refused(copy: Path, weight_map: object) -> None:
    (copy / "model.safetensors").unlink()
    (copy / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    with pytest.raises(ModelError, match=r"model\.safetensors\.index\.json is damaged: `weight_map`"):
        find_weights(copy)


def test_sharded_weights(copy: Path) -> None:
    (copy / "model.safetensors").rename(copy / "model-00001-of-00002.safetensors")
    names = [f"model-0000{i}-of-00002.safetensors" for i in (1, 2)]
    (copy / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": names[1], "b": names[0]}}))
    with pytest.raises(ModelError, match=r"lacks model-00002-of-00002\.safetensors, which model\.safetensors\.index"):
        find_weights(copy)
    (copy / names[1]).write_bytes(b"x")
    assert [path.name for path in find_weights(copy)] == ["model.safetensors.index.json", *names]


def test_pickled_weights_are_refused(copy: Path) -> None:
    (copy / "model.safetensors").rename(copy / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"only as pytorch_model.bin; pickles are not read.*convert it to safetensors"):
        hash_model(copy)
