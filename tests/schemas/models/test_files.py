"""Model folders: found, refused in words, hashed; tokenizers loaded. No network."""

import os
from pathlib import Path

import pytest
from huggingface_hub import constants

from schemas.errors import ModelError
from schemas.models.files import MODEL_FILE_BYTES, read_json, require_small_files, resolve_model
from schemas.models.hashes import hash_model


def test_a_local_folder_wins(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(model.parent)
    assert resolve_model(str(model), "main") == model.resolve()
    assert resolve_model(model.name, None) == model.resolve()


@pytest.mark.parametrize("name", ["x" * 300, "a/" + "x" * 300, "~nobody-at-all/model"])
def test_a_name_that_cannot_be_looked_up(name: str) -> None:
    with pytest.raises(ModelError, match=name):
        resolve_model(name, None)


@pytest.mark.parametrize("name", ["/nowhere/model", "./model", "~/no-such-model", "a/b/c"])
def test_a_path_that_is_not_there_is_never_looked_up(name: str) -> None:
    with pytest.raises(ModelError, match=f"there is no model folder {name}"):
        resolve_model(name, None)


def test_offline_names_the_way_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match=r"no model nobody/none at revision v1 .*give a local folder"):
        resolve_model("nobody/none", "v1")
    with pytest.raises(ModelError, match="not! an id is not a local folder"):
        resolve_model("not! an id", None)


def test_damaged_json(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("[1]")
    with pytest.raises(ModelError, match=r"not JSON \(it is not an object\)"):
        read_json(tmp_path / "config.json")
    for content in ("{", "[" * 100_000, '{"x": NaN}', '{"x": "\\ud800"}', '{"x": 1, "x": 2}'):
        (tmp_path / "config.json").write_text(content)
        with pytest.raises(ModelError, match=r"config\.json is damaged"):
            hash_model(tmp_path)


def test_large_and_special_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with (tmp_path / "model.safetensors").open("wb") as file:
        file.truncate(MODEL_FILE_BYTES * 4)  # weights may be large
    require_small_files(tmp_path, ModelError)
    with (tmp_path / "tokenizer.json").open("wb") as file:
        file.truncate(MODEL_FILE_BYTES + 1)
    with pytest.raises(ModelError, match=r"tokenizer\.json: it is larger than the 134,217,728 bytes"):
        require_small_files(tmp_path, ModelError)
    (tmp_path / "tokenizer.json").unlink()
    os.mkfifo(tmp_path / "vocab.txt")
    with pytest.raises(ModelError, match=r"vocab\.txt: it is not a regular file"):
        require_small_files(tmp_path, ModelError)
