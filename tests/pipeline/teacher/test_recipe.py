"""A sentence encoder's folder says how its embeddings are made; a request for others is refused."""

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.request.request import make_request
from schemas.cache.kinds.pooled import PooledRecord
from schemas.cache.manifest import CacheManifest
from schemas.errors import ModelError
from schemas.models.sentence_layout import SentenceLayout, write_layout
from tests.caches import extraction, write_corpus
from tests.tiny import tiny_bert, tiny_tokenizer


@pytest.fixture
def teacher(tmp_path: Path) -> Path:
    """Pools by its first token, to length 1, and cuts at 48 tokens."""
    tiny_bert(tmp_path / "teacher", tiny_tokenizer(tmp_path / "teacher", "wordpiece"))
    write_layout(tmp_path / "teacher", SentenceLayout("cls", True, 48), 32)
    write_corpus(tmp_path / "corpus.jsonl")
    return tmp_path / "teacher"


def request(teacher: Path, max_tokens: int = 48, hidden: list[int] | None = None, **pooled: Any) -> CacheManifest:
    states = {"hidden": hidden or [], "mass": [], "pooled": pooled or None}
    paths = teacher.parent / "cache", teacher, teacher.parent / "corpus.jsonl"
    return make_request(
        extraction(*paths, teacher={"kind": "encoder", "max_tokens": max_tokens}, states=states)
    ).manifest


def test_the_recipe_is_followed_or_refused(teacher: Path) -> None:
    request(teacher, pooling="cls")
    request(teacher, pooling="cls", normalise=True)
    request(teacher, max_tokens=20, pooling="cls")
    with pytest.raises(ModelError, match=r"states\.pooled\.pooling is mean, but .* by cls \(modules\.json\): set it"):
        request(teacher, pooling="mean")
    with pytest.raises(ModelError, match=r"teacher\.max_tokens is 49, but .* cuts texts at 48 tokens: set at most 48"):
        request(teacher, max_tokens=49, pooling="cls")


def test_other_states_and_other_folders_have_no_recipe(teacher: Path) -> None:
    assert [array.path for array in request(teacher, max_tokens=64, hidden=[1]).arrays] == ["hidden/1"]
    inner = request(teacher, max_tokens=64, pooling="mean", layer=1)
    assert inner.records["pooled"] == PooledRecord(pooling="mean", normalise=False, layer=1)
    assert inner.teacher.max_tokens == 64
    (teacher / "modules.json").unlink()
    last = request(teacher, max_tokens=64, pooling="mean").records["pooled"]
    assert last == PooledRecord(pooling="mean", normalise=False, layer=2)


def test_a_dense_layer_is_refused(teacher: Path) -> None:
    modules = json.loads((teacher / "modules.json").read_text())
    modules.insert(2, {"idx": 2, "name": "2", "path": "2_Dense", "type": "sentence_transformers.models.Dense"})
    (teacher / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(ModelError, match="lists Transformer, Pooling, Dense, Normalize; only Transformer, Pooling and"):
        request(teacher, pooling="cls")
    request(teacher, hidden=[1])
