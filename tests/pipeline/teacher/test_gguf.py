"""A teacher in a GGUF file: its cache holds what its blocks say, and is no other teacher's."""

from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.replay.teacher import find_teacher, load_teacher_of, require_same_files
from pipeline.request.request import make_request
from schemas.cache.manifest import read_manifest
from schemas.cache.reader import Cache
from schemas.errors import ModelError
from schemas.models.files import resolve_model
from schemas.models.teacher_head import load_teacher_head
from schemas.models.teacher_tokenizer import load_teacher_tokenizer
from tests.caches import build_cache, extraction, write_corpus
from tests.gguf_files import plain_model, tiny_gguf
from tests.pipeline.teacher.tiny_models import load, random_samples, run
from tests.tiny import TEXTS


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STILLROOM_CACHE", str(tmp_path / "home"))


def test_states_head_and_tokens_are_those_of_its_blocks(tmp_path: Path) -> None:
    path, corpus = tiny_gguf(tmp_path / "tiny.gguf", layers=3), write_corpus(tmp_path / "corpus.jsonl", TEXTS[:12])
    path_cache = build_cache(extraction(tmp_path / "cache", path, corpus))
    cache, manifest = Cache(path_cache), read_manifest(path_cache)
    assert manifest.teacher.model == "tiny.gguf"
    assert manifest.teacher.quantisation == manifest.identity["teacher"]["quantisation"] == "GGUF Q8_0, Q4_0, F32"
    assert "gguf" in manifest.provenance

    model = plain_model(path)
    path.unlink()  # what follows is of the cache alone
    head, tokenizer = load_teacher_head(path_cache, manifest), load_teacher_tokenizer(path_cache, manifest)
    assert head is not None
    for position in (0, 5, 11):
        sample = cache.sample(position)
        assert tokenizer(sample.text).input_ids == sample.token_ids.tolist()
        with torch.no_grad():
            wanted = model(torch.tensor(sample.token_ids[None].astype(np.int64)), output_hidden_states=True)
        states = cache.states(position, [array for array in manifest.arrays if array.kind == "hidden"])
        for found_Td, state_1Td in zip(states, wanted.hidden_states, strict=True):
            np.testing.assert_allclose(found_Td, state_1Td[0].numpy(), rtol=0, atol=2e-5)
        np.testing.assert_allclose(head(torch.from_numpy(states[-1])), wanted.logits[0], rtol=0, atol=2e-5)


def test_the_full_model_is_another_teacher(tmp_path: Path) -> None:
    path, corpus = tiny_gguf(tmp_path / "tiny.gguf"), write_corpus(tmp_path / "corpus.jsonl", TEXTS[:3])
    states = {"hidden": [1, "last"], "mass": []}
    cache = build_cache(extraction(tmp_path / "cache", path, corpus, states=states))
    manifest = read_manifest(cache)
    full = make_request(extraction(cache, path.parent / "full", corpus, states=states)).manifest
    assert full.fingerprint != manifest.fingerprint and full.teacher.quantisation is None
    assert "quantisation" not in full.identity["teacher"] and '"quantisation"' not in full.to_json()
    with pytest.raises(ModelError, match="weights, config differ"):
        require_same_files(cache, manifest, find_teacher(manifest, str(path.parent / "full"), None))
    folders = find_teacher(manifest, str(path), None)
    require_same_files(cache, manifest, folders)
    assert load_teacher_of(cache, manifest, folders).record == manifest.teacher


def test_spread_over_memory_and_disk(tmp_path: Path) -> None:
    folder = resolve_model(str(tiny_gguf(tmp_path / "tiny.gguf", layers=3)), None)
    whole, spread = load(folder), load(folder, placement="spread", max_memory={"cpu": "150KB"})
    assert {*spread._model.hf_device_map.values()} == {"cpu", "disk"}
    found, wanted = (run(teacher, random_samples()) for teacher in (spread, whole))
    for path, values in wanted.items():
        np.testing.assert_array_equal(found[path], values, err_msg=path)
    assert torch.equal(spread.head()[0], whole.head()[0])
