"""A cache lies outside its own corpus: whatever pattern would take one of its files is refused before any work."""

import shutil
from pathlib import Path

import pytest

from pipeline.corpus.outside import require_outside
from schemas.errors import CorpusError
from schemas.texts.files import find_files
from tests.caches import smallest_cache

INSIDE = [
    (".", "cache"),
    ("data", "data"),
    ("data", "data/cache"),
    ("data", "data/a/cache"),
    ("./data/", "data/../data/cache"),
    ("linked", "data/cache"),
    ("data", "linked/cache"),
    ("data*", "data/cache"),
    ("d?t[ab]", "data/a/cache"),
    ("data/*", "data/cache"),
    ("data/*/*/*", "data/cache"),
    ("data/**", "data/cache"),
    ("data/**/*.json", "data/cache"),
    ("data/**/*.parquet", "data/a/b/cache"),
    ("**/samples.arrow", "data/cache"),
    ("data/.hidden/*", "data/.hidden/cache"),
    ("data/c*/*.parquet", "data/cache"),
]
OUTSIDE = [
    ("data", "cache"),
    ("data", "data2/cache"),
    ("data", "data/.cache"),
    ("data", "data/.a/cache"),
    ("data/*.jsonl", "data/cache"),
    ("data/**/*.jsonl", "data/cache"),
    ("data/*/*.json", "data/a/cache"),
    ("data/*", "data/.cache"),
    ("data/**/*.json", "data/.cache"),
    ("data/?.json", "data/cache"),
    ("data/a.jsonl", "data/cache"),
    ("nowhere", "nowhere.else"),
    ("memory://bucket/x", "cache"),
]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("STILLROOM_CACHE", str(tmp_path / "copies"))
    (tmp_path / "data").mkdir()
    (tmp_path / "linked").symlink_to("data")
    return tmp_path


@pytest.mark.parametrize(("pattern", "output"), INSIDE)
def test_an_output_within_the_corpus_is_refused(here: Path, pattern: str, output: str) -> None:
    with pytest.raises(CorpusError) as refused:
        require_outside(Path(output), ["other.jsonl", pattern])
    said = f"the output {Path(output)} lies within the corpus {pattern!r}, which would take the cache's own files for"
    assert str(refused.value).startswith(said)


@pytest.mark.parametrize(("pattern", "output"), OUTSIDE)
def test_an_output_beside_it_is_not(here: Path, pattern: str, output: str) -> None:
    require_outside(Path(output), [pattern])


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return smallest_cache(tmp_path_factory.mktemp("made"), 2, 20)


@pytest.mark.parametrize(("pattern", "output"), INSIDE + OUTSIDE)
def test_they_are_told_apart_as_files_are_found(here: Path, made: Path, pattern: str, output: str) -> None:
    """The truth: with a cache at its place, are files of it taken for the corpus, or is the corpus refused?"""
    shutil.copytree(made, output, dirs_exist_ok=True)
    cache = Path(output).resolve()
    try:
        taken = any(cache in file.resolve().parents for file in find_files([pattern]).files)
    except CorpusError as error:
        taken = not any(said in str(error) for said in ("no file matches", "there is no", "no corpus file", "is a URL"))
    assert taken == ((pattern, output) in INSIDE)
