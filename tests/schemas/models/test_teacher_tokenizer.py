"""The tokenizer of a cache gives the tokens that the cache holds, by the rules that ran when it was made."""

import shutil
from pathlib import Path

import pytest

from schemas.cache.manifest import read_manifest
from schemas.cache.reader import Cache
from schemas.errors import CacheError
from schemas.models import teacher_tokenizer
from schemas.models.teacher_tokenizer import OF_THE_FILE, RULES, load_teacher_tokenizer

GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "cache-1"


def test_texts_give_the_cached_tokens() -> None:
    cache = Cache(GOLDEN)
    tokenizer = load_teacher_tokenizer(GOLDEN, cache.manifest)
    for position in range(len(cache)):
        sample = cache.sample(position)
        encoded = tokenizer(sample.text, return_offsets_mapping=True)
        assert encoded["input_ids"] == sample.token_ids.tolist()
        assert [list(pair) for pair in encoded["offset_mapping"]] == sample.token_offsets.tolist()


def test_the_rules_are_those_that_the_identity_names(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(teacher_tokenizer, "load_tokenizer", lambda folder: ("of the file", folder))
    monkeypatch.setattr(teacher_tokenizer, "load_chosen_tokenizer", lambda folder: ("chosen", folder))
    manifest = read_manifest(GOLDEN)
    said = manifest.identity["teacher"] | {RULES: OF_THE_FILE}
    of_the_file = manifest.model_copy(update={"identity": manifest.identity | {"teacher": said}})
    found: object = load_teacher_tokenizer(GOLDEN, of_the_file)
    assert found == ("of the file", GOLDEN / "teacher")
    found = load_teacher_tokenizer(GOLDEN, manifest)
    assert found == ("chosen", GOLDEN / "teacher")


def test_an_altered_one_is_not_loaded(tmp_path: Path) -> None:
    cache = Path(shutil.copytree(GOLDEN, tmp_path / "cache"))
    with (cache / "teacher" / "tokenizer.json").open("a") as file:
        file.write(" ")
    with pytest.raises(CacheError, match="is not the one that the cache was made with; extract again"):
        load_teacher_tokenizer(cache, read_manifest(cache))
