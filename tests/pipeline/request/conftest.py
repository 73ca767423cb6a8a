"""A tiny teacher and corpus, and configs for them."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from schemas.configs.extraction import ExtractionConfig
from tests.caches import extraction, write_corpus
from tests.tiny import TEXTS, tiny_llama, tiny_tokenizer


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("request")
    tiny_llama(folder / "teacher", tiny_tokenizer(folder / "teacher", "bpe", 300), hidden=8, layers=1, heads=2)
    write_corpus(folder / "corpus.jsonl", TEXTS[:5])
    return folder


@pytest.fixture
def made(sound: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sound, tmp_path / "made"))


def config(made: Path, **sections: Any) -> ExtractionConfig:
    given = {"states": {"hidden": [1], "mass": [1]}} | sections
    return extraction(made / "cache", made / "teacher", made / "corpus.jsonl", **given)
