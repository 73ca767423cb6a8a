"""Outputs under URLs, against a real S3 server, compared with the same extraction to a disk."""

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import pytest

from pipeline.output.elsewhere import find_published, read_begun, working_folder
from pipeline.output.resume import open_output
from pipeline.output.seal import seal
from pipeline.request.request import make_request
from pipeline.work.annotate import annotate_unit
from pipeline.work.job import make_job
from pipeline.work.worker import TeacherWorker
from schemas.cache.reader import Cache
from schemas.configs.extraction import ExtractionConfig
from schemas.errors import CacheError, CorpusError, StillroomError, StorageError
from schemas.storage.lock import LockRecord
from schemas.storage.remote import locate_anywhere
from tests.buckets import Bucket, bytes_below, published
from tests.caches import encoded_extraction, extend_here, extraction, publish_here, write_corpus
from tests.tiny import TEXTS, tiny_llama, tiny_tokenizer


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A teacher, a corpus, and in local/ the cache that is wanted."""
    folder = tmp_path_factory.mktemp("extraction")
    tiny_llama(folder / "teacher", tiny_tokenizer(folder / "teacher", "bpe", 300), hidden=8, layers=1, heads=2)
    write_corpus(folder / "corpus.jsonl", TEXTS[:16])
    publish_here(config(folder, folder / "local"))
    return folder


def config(folder: Path, output: str | Path, corpus: str = "corpus.jsonl", **sections: Any) -> ExtractionConfig:
    settings = {"states": {"hidden": [1], "mass": [1]}, "batching": {"unit_tokens": 60}} | sections
    return extraction(locate_anywhere(output), folder / "teacher", folder / corpus, **settings)


def complete(found: dict[str, bytes]) -> set[str]:
    """The folders of all shards that a reader would take for whole."""
    return {name.removesuffix("shard.json") for name in found if name.endswith("/shard.json")}


def test_a_cache_at_a_url_has_the_bytes_of_one_on_a_disk(bucket: Bucket, folder: Path) -> None:
    wanted = config(folder, f"{bucket.url}/cache")
    manifest = make_request(wanted).manifest
    cache = working_folder(wanted.output)
    assert find_published(cache, manifest) is None
    with bucket.trouble(errors=0.05):
        reports = publish_here(wanted)
    assert published(bucket) == bytes_below(folder / "local")
    assert list(cache.iterdir()) == []  # nothing stays here
    found = find_published(cache, manifest)
    assert found is not None
    assert found.units == len(reports)
    assert found.samples == sum(report.record.samples for report in reports)
    assert found.bytes == sum(report.record.file_bytes for report in reports)
    assert publish_here(wanted) == []
    assert published(bucket) == bytes_below(folder / "local")


def test_a_finished_cache_is_recognised_in_a_few_requests(bucket: Bucket, folder: Path) -> None:
    wanted = config(folder, f"{bucket.url}/cache")
    bucket.upload(folder / "local", "cache")
    manifest, cache = make_request(wanted).manifest, working_folder(wanted.output)
    before = bucket.door.asked.total()
    assert find_published(cache, manifest) is not None
    assert bucket.door.asked.total() == before + 3  # manifest, seal, one page of the listing
    key = next(key for key in bucket.keys("cache/shards/00001") if "/c/" in key)
    held = bucket.get(key)
    for damage in (lambda: bucket.put(key, held[:-1]), lambda: bucket.remove(key)):
        damage()
        assert find_published(cache, manifest) is None
    bucket.put(key, held)
    for name in ("index.parquet", "checksums.json", "teacher/files.json", "shards/00000/shard.json"):
        there = bucket.get(f"cache/{name}")
        bucket.remove(f"cache/{name}")
        assert find_published(cache, manifest) is None
        bucket.put(f"cache/{name}", there)
    assert find_published(cache, manifest) is not None
    other = make_request(config(folder, folder / "x", batching={"unit_tokens": 61})).manifest
    assert find_published(cache, other) is None


def test_whatever_is_cut_off_between_two_objects_is_gone_on_from(
    bucket: Bucket, folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """From some write on nothing gets through, as if this machine were gone: what is there is what a kill leaves."""
    caplog.set_level(logging.CRITICAL)
    monkeypatch.setattr("schemas.storage.objects.TRIES", 1)
    wanted, whole = config(folder, f"{bucket.url}/cache"), bytes_below(folder / "local")
    said = list[str]()
    for writes in (1, 4, 13, 16, 17):
        left = iter(range(writes))

        def is_dark(method: str, path: str, left: Any = left, dark: list[bool] = []) -> bool:  # noqa: B006
            if method == "PUT" and "/." not in path and next(left, None) is None:
                dark.append(True)
            return bool(dark)

        with bucket.trouble(closed=is_dark), pytest.raises(StorageError):
            publish_here(wanted, said.append)
        is_dark.__defaults__[1].clear()  # type: ignore[index]
        found = published(bucket)
        for shard in complete(found):
            assert {name for name in whole if name.startswith(shard)} <= found.keys()
        assert all(found[name] == whole[name] for name in found if name in whole)
        with pytest.raises(CacheError, match=r"is not complete|is not a stillroom cache"):
            Cache(wanted.output)
        _leave(bucket)
    count = len(complete(found))
    assert 0 < count < len(complete(whole))
    reports = publish_here(wanted, said.append)
    assert len(reports) == len(complete(whole)) - count
    assert published(bucket) == whole
    assert sum("it is taken over" in line for line in said) == 5


def _leave(bucket: Bucket) -> None:
    """Let the holder of the lease be a process that is no more."""
    record = LockRecord.model_validate_json(bucket.get("cache/.writer"))
    boot = record.started.split(" ")[0]
    bucket.put("cache/.writer", record.model_copy(update={"started": f"{boot} 1"}).model_dump_json().encode())


def test_of_two_drivers_one_works_and_the_other_is_told_who(
    bucket: Bucket, folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    wanted = config(folder, f"{bucket.url}/cache")
    manifest = make_request(wanted).manifest
    with open_output(working_folder(wanted.output), manifest, print):
        with pytest.raises(CacheError, match=r"another extraction is writing to .*: process \d+ on "):
            publish_here(wanted)
        monkeypatch.setenv("STILLROOM_CACHE", str(tmp_path / "another machine"))
        other = config(folder, f"{bucket.url}/cache")
        with pytest.raises(CacheError, match=r"another extraction is writing to .*: process \d+ on "):
            publish_here(other)
        assert bucket.keys("cache/.writer") == ["cache/.writer"]
    publish_here(other)
    assert published(bucket) == bytes_below(folder / "local")


def test_a_worker_of_another_machine_needs_the_url_alone(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With tables that are calibrated on one machine and used on the other."""
    local = encoded_extraction(tmp_path / "extraction")
    publish_here(local)
    wanted = local.model_copy(update={"output": locate_anywhere(f"{bucket.url}/cache")})
    request = make_request(wanted)
    cache = working_folder(wanted.output)
    with open_output(cache, request.manifest, print) as output:
        job = make_job(request, cache)
        monkeypatch.setenv("STILLROOM_CACHE", str(tmp_path / "there"))
        worker = TeacherWorker(job)
        worker.prepare(True, request.plan.calibration)
        units = [annotate_unit(job, unit.number, held) for unit, held in request.plan.read_units(request.corpus)]
        reports = [worker.run(units[0])]
        monkeypatch.setenv("STILLROOM_CACHE", str(tmp_path / "third"))
        third = TeacherWorker(job)
        third.prepare(False)
        reports += [third.run(unit) for unit in units[1:]]
        assert third.run(units[0]).record == reports[0].record  # it was there
        for place in ("there", "third"):
            assert list((tmp_path / place).rglob("samples.arrow")) == []
        seal(output, request.manifest)
    assert published(bucket) == bytes_below(local.output)


def test_a_damaged_shard_is_made_again_and_no_other(bucket: Bucket, folder: Path) -> None:
    wanted = config(folder, f"{bucket.url}/cache")
    bucket.upload(folder / "local", "cache")
    key = next(key for key in bucket.keys("cache/shards/00001") if "/c/" in key)
    bucket.put(key, bucket.get(key)[:-1])
    said = list[str]()
    reports = publish_here(wanted, said.append)
    assert [report.record.unit for report in reports] == [1]
    assert any("shard 1 is damaged and will be redone" in line for line in said)
    assert published(bucket) == bytes_below(folder / "local")


def test_a_cache_grows_at_its_url_as_on_a_disk(bucket: Bucket, folder: Path) -> None:
    """By samples, and by a layer and a kind."""
    write_corpus(folder / "longer.jsonl", TEXTS[:20])
    bucket.upload(folder / "local", "cache")
    before = bytes_below(folder / "local")
    shutil.copytree(folder / "local", folder / "grown")
    more = {"states": {"hidden": [0, 1], "mass": [1], "pooled": {"pooling": "last"}}}
    for output in (folder / "grown", f"{bucket.url}/cache"):
        extend_here(config(folder, output, "longer.jsonl", **more))
    after = published(bucket)
    assert after == bytes_below(folder / "grown")
    assert all(after[name] == before[name] for name in before if name.startswith("shards/"))
    assert len(complete(after)) > 2 * len(complete(before))


def test_what_lies_there_is_not_overwritten(bucket: Bucket, folder: Path) -> None:
    bucket.upload(folder / "local", "cache")
    bucket.put("other/notes.txt", b"mine")
    with pytest.raises(CacheError, match=r"is the cache of another request:\n  batching"):
        publish_here(config(folder, f"{bucket.url}/cache", batching={"unit_tokens": 61}))
    with pytest.raises(CacheError, match="not a stillroom cache and not empty"):
        publish_here(config(folder, f"{bucket.url}/other"))
    assert published(bucket) == bytes_below(folder / "local")
    assert published(bucket, "other/") == {"notes.txt": b"mine"}
    assert bucket.keys("other/") == ["other/notes.txt"]


def test_a_start_that_fails_before_its_first_shard_leaves_nothing(bucket: Bucket, folder: Path) -> None:
    wanted = config(folder, f"{bucket.url}/cache")
    with (
        pytest.raises(StillroomError, match="as a test wants"),
        open_output(working_folder(wanted.output), make_request(wanted).manifest, print) as output,
    ):
        output.log("start")
        raise CorpusError("as a test wants")
    assert bucket.keys() == []


def test_the_manifest_of_an_output_is_read_where_it_lies(bucket: Bucket, folder: Path) -> None:
    bucket.upload(folder / "local", "cache")
    assert read_begun(locate_anywhere(f"{bucket.url}/cache")) == read_begun(folder / "local")
    with pytest.raises(CacheError, match=r"there is no cache\.json"):
        read_begun(locate_anywhere(f"{bucket.url}/other"))
    assert json.loads(bucket.get("cache/checksums.json"))["totals"]["units"] == len(complete(published(bucket)))
