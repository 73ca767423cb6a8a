"""Going on with a cache under other versions of the libraries than began it."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from pipeline.output.resume import find_complete, open_output
from pipeline.request.request import make_request
from schemas.cache.manifest import CacheManifest, read_manifest
from schemas.configs.extraction import ExtractionConfig
from schemas.errors import CacheError
from tests.caches import build_cache, extraction, without_checksums, write_corpus
from tests.tiny import tiny_llama, tiny_tokenizer


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> ExtractionConfig:
    folder = tmp_path_factory.mktemp("resume")
    tiny_llama(folder / "teacher", tiny_tokenizer(folder / "teacher", "bpe"), layers=3)
    made = extraction(folder / "cache", folder / "teacher", write_corpus(folder / "corpus.jsonl"))
    build_cache(made)
    return made


@pytest.fixture
def manifest(config: ExtractionConfig) -> CacheManifest:
    return make_request(config).manifest


@pytest.fixture
def cache(config: ExtractionConfig, tmp_path: Path) -> Path:
    return Path(shutil.copytree(config.output, tmp_path / "cache"))


def begun_with(cache: Path, **versions: str) -> None:
    without_checksums(cache)
    content: dict[str, Any] = json.loads((cache / "cache.json").read_text())
    content["provenance"] |= versions
    (cache / "cache.json").write_text(json.dumps(content))


def lose(cache: Path, *units: int) -> None:
    for unit in units:
        shutil.rmtree(cache / f"shards/{unit:05d}")


def test_the_rest_is_not_written_by_other_versions(cache: Path, manifest: CacheManifest) -> None:
    begun_with(cache, torch="2.1.0", tokenizers="0.1.0", numpy="1.0.0")
    lose(cache, 1)
    damaged = cache / "shards/00002/samples.arrow"
    damaged.write_bytes(damaged.read_bytes()[:100])
    said = (
        r"cache was begun with tokenizers 0\.1\.0, torch 2\.1\.0; here is tokenizers \S+, torch \S+, .*; "
        r"name a new output, or go on with the old versions: pip install tokenizers==0\.1\.0 torch==2\.1\.0$"
    )
    with pytest.raises(CacheError, match=said), open_output(cache, manifest, print):
        pass
    assert damaged.exists() and read_manifest(cache).provenance["torch"] == "2.1.0"


def test_a_finished_cache_is_left_alone_whatever_the_versions(cache: Path, manifest: CacheManifest) -> None:
    begun_with(cache, torch="2.1.0", transformers="4.0.0")
    done = find_complete(cache, manifest)
    assert done is not None and len(done) == manifest.units
    (cache / "index.parquet").unlink()  # of which no number depends on a version
    assert find_complete(cache, manifest) is None
    with open_output(cache, manifest, print) as output:
        assert len(output.done) == manifest.units
    assert read_manifest(cache).provenance["torch"] == "2.1.0"


def test_the_same_versions_go_on(cache: Path, manifest: CacheManifest) -> None:
    begun_with(cache, ray="1.0.0", python="3.0.0")  # which round nothing
    lose(cache, 0)
    with open_output(cache, manifest, print) as output:
        assert sorted(output.done) == list(range(1, manifest.units))


def test_what_has_no_shard_yet_takes_the_versions_of_now(cache: Path, manifest: CacheManifest) -> None:
    begun_with(cache, torch="2.1.0")
    lose(cache, *range(manifest.units))
    with open_output(cache, manifest, print) as output:
        assert output.done == {}
    assert read_manifest(cache).provenance == manifest.provenance
