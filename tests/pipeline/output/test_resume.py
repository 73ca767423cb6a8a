"""Going on with a cache under other versions of the libraries than began it."""

import json
import os
import shutil
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import schemas.cache.shard
from pipeline.output.resume import find_complete, locked, open_output
from pipeline.request.request import make_request
from schemas.cache.index import write_index
from schemas.cache.manifest import CacheManifest, read_manifest
from schemas.cache.reader import Cache
from schemas.configs.extraction import ExtractionConfig
from schemas.errors import CacheError, ResourceError
from schemas.storage.file_record import check_size
from schemas.storage.fingerprint import fingerprint
from schemas.storage.lock import read_token
from schemas.storage.record import read_content
from tests.caches import build_cache, extraction, without_checksums, write_corpus
from tests.files import as_no_root, hashes
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


@pytest.mark.parametrize("is_complete", [True, False])
def test_a_cache_of_format_1_is_another_request(cache: Path, manifest: CacheManifest, is_complete: bool) -> None:
    content: dict[str, Any] = json.loads((cache / "cache.json").read_text())
    content["version"], content["identity"]["format"] = 1, "stillroom-cache 1"
    content["fingerprint"] = fingerprint(content["identity"])
    (cache / "cache.json").write_text(json.dumps(content))
    if not is_complete:
        lose(without_checksums(cache), 0)
    said = (
        f"{cache} is the cache of another request:\n"
        '  format: found "stillroom-cache 1", wanted "stillroom-cache 2"\n'
        "name another output, or delete that folder to replace it"
    )
    for look in (lambda: find_complete(cache, manifest), lambda: open_output(cache, manifest, print).__enter__()):
        with pytest.raises(CacheError) as refused:
            look()
        assert str(refused.value) == said


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
    said: list[str] = []
    with open_output(cache, manifest, said.append) as output:
        assert sorted(output.done) == list(range(1, manifest.units))
    assert said == []


def test_what_has_no_shard_yet_takes_the_versions_of_now(cache: Path, manifest: CacheManifest) -> None:
    begun_with(cache, torch="2.1.0")
    lose(cache, *range(manifest.units))
    with open_output(cache, manifest, print) as output:
        assert output.done == {}
    assert read_manifest(cache).provenance == manifest.provenance


@pytest.mark.parametrize("lost", [(), (1,)])
def test_every_shard_is_looked_at_once(
    cache: Path, manifest: CacheManifest, lost: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a finished cache, and of one that is gone on with: its record is read and the sizes of its files are asked."""
    kept = Path(shutil.copytree(cache / "shards/00001", cache.parent / "kept"))
    if lost:
        lose(cache, *lost)
        (cache / "index.parquet").unlink()
        (cache / "checksums.json").unlink()
    records, sizes = Counter[Path](), Counter[Path]()

    def read(path: Path, *rest: Any) -> bytes:
        records[path] += 1
        return read_content(path, *rest)

    def check(path: Path | str, *rest: Any) -> None:
        sizes[Path(path)] += 1
        check_size(path, *rest)

    monkeypatch.setattr(schemas.cache.shard, "read_content", read)
    monkeypatch.setattr(schemas.cache.shard, "check_size", check)
    if find_complete(cache, manifest) is None:
        with open_output(cache, manifest, print) as output:
            assert sorted(output.done) == [unit for unit in range(manifest.units) if unit not in lost]
            shutil.copytree(kept, cache / "shards/00001")
            assert write_index(cache, manifest, output.seen) == len(Cache(cache))
    files = {path for path in cache.glob("shards/*/**/*") if path.is_file()}
    named = {path for path in files if path.name == "shard.json"}
    assert records == dict.fromkeys(named, 1) and sizes == dict.fromkeys(files - named, 1)


def test_an_altered_manifest_is_written_anew(cache: Path, manifest: CacheManifest) -> None:
    path = cache / "cache.json"
    sound = path.read_bytes()
    path.write_text(path.read_text().replace('"scale": 1.0', '"scale": 3.0'))
    assert find_complete(cache, manifest) is None
    said: list[str] = []
    with open_output(cache, manifest, said.append) as output:
        assert len(output.done) == manifest.units and path.read_bytes() == sound
        write_index(cache, manifest)
    assert said == [f"{path} was altered and is written anew: teacher.head.scale: found 3.0, wanted 1.0"]
    assert find_complete(cache, manifest) is not None
    Cache(cache)


def test_information_that_was_altered_is_sealed_anew(cache: Path, manifest: CacheManifest) -> None:
    path = cache / "cache.json"
    path.write_text(path.read_text().replace('"zarr": "', '"zarr": "9'))
    assert find_complete(cache, manifest) is None
    said: list[str] = []
    with open_output(cache, manifest, said.append):
        write_index(cache, manifest)
    assert said == [f"{path} was altered and is written anew: it does not have its checksum"]
    assert find_complete(cache, manifest) is not None


def test_an_altered_record_costs_its_shard_and_the_seal(cache: Path, manifest: CacheManifest) -> None:
    path = cache / "shards/00001/shard.json"
    path.write_text(path.read_text().replace('"overlong": 0', '"overlong": 1'))
    said: list[str] = []
    with open_output(cache, manifest, said.append) as output:
        assert 1 not in output.done and len(output.done) == manifest.units - 1
        assert not (cache / "index.parquet").exists() and not (cache / "checksums.json").exists()
    assert said == [f"shard 1 is damaged and will be redone: {path} does not have its checksum"]
    with pytest.raises(CacheError, match="is not complete"):
        Cache(cache)


def test_a_damaged_index_is_made_anew(cache: Path, manifest: CacheManifest) -> None:
    path = cache / "index.parquet"
    sound = path.read_bytes()
    path.write_bytes(sound[:-9])
    assert find_complete(cache, manifest) is None
    with open_output(cache, manifest, print):
        write_index(cache, manifest)
    assert path.read_bytes() == sound and find_complete(cache, manifest) is not None


def test_temporaries_of_others_stay(cache: Path, manifest: CacheManifest) -> None:
    """Of a driver that was killed they go with its lock; of one that is not known they may be in use."""
    lock = cache / ".writer"
    record = {"format": "stillroom-lock", "version": 1, "token": "deadbeef", "host": "elsewhere", "pid": 1}
    lock.write_text(json.dumps(record | {"started": "", "at": 0.0}))
    os.utime(lock, (0, 0))
    for owner in ("deadbeef", "01234567"):
        (cache / f"shards/.00007-abcd0123@{owner}.tmp").mkdir()
    said: list[str] = []
    with open_output(cache, manifest, said.append):
        (cache / f"shards/.00008-abcd0123@{read_token(lock)}.tmp").mkdir()
    assert len(said) == 1 and "was left behind by process 1 on elsewhere" in said[0]
    assert [path.name for path in cache.glob("**/.*")] == [".00007-abcd0123@01234567.tmp"]


def test_a_refused_driver_changes_nothing(cache: Path, manifest: CacheManifest) -> None:
    (cache / "shards/.00007-abcd0123.tmp").mkdir()
    with locked(cache, print):
        before = sorted(cache.rglob("*"))
        with pytest.raises(CacheError, match=r"another extraction is writing to .*: process \d+ on \S+, seen"):
            open_output(cache, manifest, print).__enter__()
        assert sorted(cache.rglob("*")) == before


def test_only_a_new_folder_without_a_shard_is_discarded(cache: Path, manifest: CacheManifest, tmp_path: Path) -> None:
    new = tmp_path / "new"
    with open_output(new, manifest, print) as output:
        output.discard()
        assert not new.exists()
    with open_output(new, manifest, print) as output:
        shutil.copytree(cache / "shards" / "00000", new / "shards" / "00000")
        output.discard()
        assert (new / "shards" / "00000" / "shard.json").exists()
    lose(cache, *range(manifest.units))
    with open_output(cache, manifest, print) as output:  # it was there before
        output.discard()
        assert cache.exists()


def test_a_shard_that_this_user_may_not_read_stays(cache: Path, manifest: CacheManifest) -> None:
    with tempfile.TemporaryDirectory() as name:  # where a user who is not root comes
        here = Path(shutil.copytree(cache, Path(name) / "cache"))
        whole = hashes(here)
        (here / "index.parquet").unlink()
        record = here / "shards" / "00001" / "shard.json"
        with as_no_root(Path(name)):
            record.chmod(0)
            with (
                pytest.raises(ResourceError, match=rf"{record} is closed to this user"),
                open_output(here, manifest, print),
            ):
                pass
            record.chmod(0o644)
        assert hashes(here) == {path: digest for path, digest in whole.items() if path != "index.parquet"}
