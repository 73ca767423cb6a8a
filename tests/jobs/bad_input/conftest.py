"""Everything right, once; and for each test a copy of it to break."""

import shutil
from pathlib import Path

import pytest

from tests.caches import build_cache, extraction, write_corpus
from tests.tiny import tiny_bert, tiny_llama, tiny_tokenizer


@pytest.fixture(scope="package")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A teacher, an encoder, a corpus, a complete cache: everything right."""
    folder = tmp_path_factory.mktemp("sound")
    tiny_llama(folder / "teacher", tiny_tokenizer(folder / "teacher", "bpe"), hidden=16, layers=2, heads=2)
    tiny_tokenizer(folder / "bytelevel", "bytelevel", vocab=300)
    tiny_bert(folder / "encoder", tiny_tokenizer(folder / "encoder", "wordpiece"))
    corpus = write_corpus(folder / "corpus.jsonl")
    build_cache(extraction(folder / "cache", folder / "teacher", corpus, states={"hidden": [1, 2], "mass": [2]}))
    return folder


@pytest.fixture
def here(sound: Path, tmp_path: Path) -> Path:
    """A copy to break."""
    shutil.copytree(sound, tmp_path / "here")
    return tmp_path / "here"
