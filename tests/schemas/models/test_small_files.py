"""What transformers would read whole is a regular file of bounded size: said before it reads."""

import os
from pathlib import Path

import pytest

from schemas.errors import ModelError
from schemas.models.files import MODEL_FILE_BYTES, require_small_files


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
