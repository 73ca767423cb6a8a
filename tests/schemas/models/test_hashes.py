"""Hashes of a model change with their part alone."""

from pathlib import Path

import pytest

from schemas.errors import ModelError
from schemas.models.hashes import hash_model, hash_tokenizer
from schemas.models.weights import find_weights
from tests.schemas.models.editing import edit


def test_a_models_own_code_counts_where_it_may_run(copy: Path) -> None:
    before = hash_model(copy)
    (copy / "modeling_own.py").write_text("WIDTH = 1\n")
    assert hash_model(copy) == before
    first = hash_model(copy, trust_remote_code=True)
    assert {part for part in first if first[part] != before.get(part)} == {"code"}
    (copy / "modeling_own.py").write_text("WIDTH = 2\n")
    second = hash_model(copy, trust_remote_code=True)
    assert {part for part in first if first[part] != second[part]} == {"code"}
    assert hash_tokenizer(copy) == before["tokenizer"] != hash_tokenizer(copy, trust_remote_code=True)
    (copy / "modeling_own.py").unlink()
    assert hash_model(copy, trust_remote_code=True) == before


def test_hashes_change_with_their_part_alone(model: Path, copy: Path) -> None:
    first = hash_model(model)
    assert sorted(first) == ["config", "tokenizer", "weights"]
    edit(copy / "config.json", transformers_version="0", _name_or_path="elsewhere", dtype="bfloat16", use_cache=False)
    (copy / "README.md").write_text("not part of it")
    assert hash_model(copy) == first
    edit(copy / "config.json", rms_norm_eps=0.5)
    second = hash_model(copy)
    assert {part for part in first if first[part] != second[part]} == {"config"}
    edit(copy / "tokenizer_config.json", model_max_length=5)
    third = hash_model(copy)
    assert {part for part in first if third[part] != second[part]} == {"tokenizer"}
    weights = bytearray((copy / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (copy / "model.safetensors").write_bytes(weights)
    assert {part for part in first if hash_model(copy)[part] != third[part]} == {"weights"}


def test_a_folder_with_a_tokenizer_alone(copy: Path) -> None:
    (copy / "model.safetensors").unlink()
    (copy / "config.json").unlink()
    assert list(hash_model(copy)) == ["tokenizer"]
    with pytest.raises(ModelError, match="holds no weights"):
        find_weights(copy)
