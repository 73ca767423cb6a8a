"""A small model with its tokenizer, and for each test a copy to alter."""

import shutil
from pathlib import Path

import pytest

from tests.tiny import tiny_llama, tiny_tokenizer


@pytest.fixture(scope="package")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    tiny_llama(folder, tiny_tokenizer(folder, "bytelevel"), layers=1)
    return folder


@pytest.fixture
def copy(model: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(model, tmp_path / "copy"))
