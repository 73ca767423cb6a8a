"""What a cache of before checksums says of its teacher is proven by the teacher's own files."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from schemas.cache.checksums import CHECKSUMS
from schemas.cache.index import write_index
from schemas.cache.manifest import CacheManifest, read_manifest
from schemas.errors import CacheError
from schemas.models.teacher_proof import prove_teacher
from schemas.models.teacher_seal import cover_teacher

GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "cache-1"


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return Path(shutil.copytree(GOLDEN, tmp_path / "cache"))


def altered(cache: Path, **teacher: Any) -> CacheManifest:
    """What cache.json would be with another record of the teacher, which its identity does not cover."""
    manifest = read_manifest(cache)
    return manifest.model_copy(update={"teacher": manifest.teacher.model_copy(update=teacher)})


def test_a_whole_one_is_proven(cache: Path) -> None:
    assert not (cache / CHECKSUMS).exists()
    prove_teacher(cache, read_manifest(cache))


@pytest.mark.parametrize(("field", "said", "found"), [("num_layers", 2, 1), ("hidden_size", 16, 8)])
def test_sizes_are_those_of_the_config(cache: Path, field: str, said: int, found: int) -> None:
    with pytest.raises(CacheError) as refused:
        prove_teacher(cache, altered(cache, **{field: said}))
    assert str(refused.value) == (
        f"{cache / 'cache.json'} was altered: teacher.{field} is {said}, and by teacher/config.json it is {found}; "
        "extract again"
    )


@pytest.mark.parametrize(("field", "said", "found"), [("scale", 0.5, 1.0), ("softcap", 30.0, None)])
def test_the_formula_of_the_logits_is_that_of_the_config(cache: Path, field: str, said: float, found: object) -> None:
    head = read_manifest(cache).teacher.head
    assert head is not None
    with pytest.raises(
        CacheError, match=rf"teacher\.head\.{field} is {said}, and by teacher/config\.json it is {found};"
    ):
        prove_teacher(cache, altered(cache, head=head.model_copy(update={field: said})))


def test_a_tokenizer_is_the_one_that_made_the_cache(cache: Path) -> None:
    with (cache / "teacher" / "tokenizer.json").open("a") as file:
        file.write(" ")
    with pytest.raises(CacheError) as refused:
        prove_teacher(cache, read_manifest(cache))
    assert str(refused.value) == (
        f"the tokenizer in {cache / 'teacher'} is not the one that the cache was made with; extract again"
    )


def test_a_config_that_is_not_the_teachers_proves_nothing(cache: Path) -> None:
    """Where a tokenizer came from another folder, its config.json lies there."""
    config = json.loads((cache / "teacher" / "config.json").read_text())
    (cache / "teacher" / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 7}))
    prove_teacher(cache, altered(cache, num_layers=2))


def test_checksums_cover_more(cache: Path) -> None:
    """Whoever opens a cache verifies them."""
    manifest = read_manifest(cache)
    cover_teacher(cache, manifest)
    write_index(cache, manifest)
    assert (cache / CHECKSUMS).exists()
    prove_teacher(cache, altered(cache, num_layers=2))
