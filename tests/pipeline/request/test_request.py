"""A config made definite, from real folders: what is hashed, what is stamped, and what is refused."""

import hashlib
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from pipeline.request.request import find_folders, hash_teacher, make_request
from schemas.cache.annotator import UNANNOTATED
from schemas.configs.extraction import ExtractionConfig
from schemas.errors import ConfigError
from schemas.models.hashes import hash_tokenizer
from schemas.storage.fingerprint import fingerprint
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


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def test_all_is_settled_and_nothing_written(made: Path) -> None:
    before = sorted(path.name for path in made.rglob("*"))
    request = make_request(config(made))
    manifest = request.manifest
    assert manifest.fingerprint == fingerprint(manifest.identity)
    assert (manifest.corpus.samples, manifest.units) == (5, len(request.plan.units))
    assert [array.path for array in manifest.arrays] == ["hidden/1", "mass/1"]
    assert (manifest.teacher.model, manifest.teacher.num_layers, manifest.teacher.hidden_size) == ("teacher", 1, 8)
    assert manifest.annotator.startswith("english 1 (")
    assert make_request(config(made)).manifest == manifest
    assert sorted(path.name for path in made.rglob("*")) == before


def test_parts_are_hashed_by_name_and_content(made: Path) -> None:
    folders = find_folders(config(made))
    hashes = hash_teacher(folders, trust_remote_code=False)
    weights = sha256((made / "teacher" / "model.safetensors").read_bytes())
    assert hashes["weights"] == sha256(f'{{"model.safetensors":"{weights}"}}'.encode())
    assert hashes["adapter"] is None and hashes["tokenizer"] == hash_tokenizer(made / "teacher")
    with (made / "teacher" / "tokenizer_config.json").open("a") as file:
        file.write("\n")
    changed = hash_teacher(folders, trust_remote_code=False)
    assert {name for name in hashes if hashes[name] != changed[name]} == {"tokenizer"}


def test_stamps_tell_a_file_that_was_changed_without_reading_it(made: Path) -> None:
    folders = find_folders(config(made))
    before = folders.stamps()
    assert before == folders.stamps() and [Path(name).parent for name, *_ in before] == [made / "teacher"] * len(before)
    weights = made / "teacher" / "model.safetensors"
    os.utime(weights, ns=(1, 1))
    changed = {Path(new[0]).name for old, new in zip(before, folders.stamps(), strict=True) if old != new}
    assert changed == {"model.safetensors"}


def test_a_tokenizer_and_an_adapter_may_lie_elsewhere(made: Path) -> None:
    tiny_tokenizer(made / "other", "bytelevel")
    (made / "adapter").mkdir()
    teacher = {"tokenizer": str(made / "other"), "adapter": str(made / "adapter")}
    folders = find_folders(config(made, teacher=teacher))
    assert (folders.model.name, folders.tokenizer.name, folders.adapter) == ("teacher", "other", made / "adapter")


def test_without_tokens_nobody_annotates(made: Path) -> None:
    pooled = {"hidden": [], "mass": [], "pooled": {"pooling": "last"}}
    manifest = make_request(config(made, states=pooled)).manifest
    assert manifest.annotator == UNANNOTATED and set(manifest.records) == {"pooled"}


def test_a_gpu_that_ray_does_not_assign_is_refused(made: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"^teacher\.device is cuda, but workers\.gpus is 0: .* set workers\.gpus to 1$"
    ):
        make_request(config(made, teacher={"device": "cuda"}))
