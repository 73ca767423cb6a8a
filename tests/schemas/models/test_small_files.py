"""What transformers would read whole is a regular file of bounded size: said before it reads."""

import json
import os
from pathlib import Path

import pytest

from schemas.errors import ModelError, TokenizerError
from schemas.models.files import MODEL_FILE_BYTES, require_small_files
from schemas.models.tokenizer import load_tokenizer
from tests.tiny import tiny_tokenizer


def test_large_and_special_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with (tmp_path / "model.safetensors").open("wb") as file:
        file.truncate(MODEL_FILE_BYTES * 4)  # weights may be large
    require_small_files(tmp_path, ModelError)
    with (tmp_path / "tokenizer.json").open("wb") as file:
        file.truncate(MODEL_FILE_BYTES + 1)
    with pytest.raises(ModelError, match=r"tokenizer\.json: it is larger than the 268,435,456 bytes"):
        require_small_files(tmp_path, ModelError)
    (tmp_path / "tokenizer.json").unlink()
    os.mkfifo(tmp_path / "vocab.txt")
    with pytest.raises(ModelError, match=r"vocab\.txt: it is not a regular file"):
        require_small_files(tmp_path, ModelError)


def test_a_setting_of_another_type_is_refused(tmp_path: Path) -> None:
    """A found case of the fuzz test: transformers compares the number of tokens with it."""
    tiny_tokenizer(tmp_path, "bpe")
    settings = json.loads((tmp_path / "tokenizer_config.json").read_text())
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings | {"model_max_length": {"a": None}}))
    with pytest.raises(TokenizerError, match=r"cannot (tokenize|load)"):
        load_tokenizer(tmp_path)
