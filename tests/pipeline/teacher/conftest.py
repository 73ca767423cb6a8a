"""A tiny teacher whose folder no test alters."""

from pathlib import Path

import pytest

from tests.tiny import tiny_llama, tiny_tokenizer


@pytest.fixture(scope="package")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("llama")
    tiny_llama(folder, tiny_tokenizer(folder))
    return folder
