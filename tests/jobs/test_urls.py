"""Commands on a cache in a bucket of a real S3 server: what they say and do is what they do on a disk."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from jobs.cli import app
from jobs.extract import show_plan
from jobs.repair import repair_cache
from pipeline.output.elsewhere import working_folder
from pipeline.output.resume import locked
from schemas.cache.shard import RECORD
from schemas.configs.extraction import ExtractionConfig
from schemas.configs.yaml import dump_config
from schemas.errors import StorageError
from schemas.storage.remote import locate_anywhere
from tests.buckets import Bucket, Server, bytes_below, made_known, published
from tests.caches import extend_here, extraction, smallest_cache


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bucket]:
    with pytest.MonkeyPatch.context() as patch:
        made_known(patch, tmp_path_factory.mktemp("home"))
        yield Server.only().bucket()


@pytest.fixture(scope="module")
def local(bucket: Bucket, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache on a disk to which a layer was added, and the same in the bucket."""
    cache = smallest_cache(tmp_path_factory.mktemp("urls"), 6, 30)
    extend_here(config(cache, cache))
    bucket.upload(cache, "cache")
    return cache


@pytest.fixture
def url(bucket: Bucket, local: Path) -> Iterator[str]:
    """That in the bucket, which every test leaves as it was."""
    yield f"{bucket.url}/cache"
    found = {key: md5 for key, md5 in bucket.sums("cache/").items() if not key.endswith("extraction.jsonl")}
    assert found == {f"cache/{name}": hashlib.md5(content).hexdigest() for name, content in bytes_below(local).items()}
    assert list(working_folder(locate_anywhere(f"{bucket.url}/cache")).glob("*")) == []
    assert bucket.keys("cache/.") == []


def config(local: Path, output: str | Path) -> ExtractionConfig:
    states, batching = {"hidden": [0, 1], "mass": [1]}, {"unit_tokens": 30}
    corpus = local.parent / "corpus.jsonl"
    return extraction(locate_anywhere(output), local.parent / "teacher", corpus, states=states, batching=batching)


def run(*arguments: str, code: int = 0) -> str:
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == code, done.output
    return done.output


def damage(bucket: Bucket, key: str) -> None:
    content = bytearray(bucket.get(key))
    content[len(content) // 2] ^= 1
    bucket.put(key, bytes(content))


def chunk_of(bucket: Bucket, shard: str) -> str:
    return next(key for key in bucket.keys(f"cache/{shard}/") if "/c/" in key)


def test_what_is_damaged_in_a_bucket_goes_and_is_made_again(
    bucket: Bucket, url: str, local: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    damaged = ["shards/00000", "shards/00001", "added/1/shards/00002"]
    damage(bucket, chunk_of(bucket, damaged[0]))
    damage(bucket, f"cache/{damaged[1]}/{RECORD}")
    damage(bucket, chunk_of(bucket, damaged[2]))
    bucket.remove("cache/added/1/shards/00001/shard.json")
    removed, writes = list[str](), iter(range(4))

    def note(method: str, path: str) -> bool:
        """Of what is removed, only the first four get through at first."""
        if method != "DELETE" or "/." in path:
            return False
        closed = next(writes, None) is None
        if not closed:
            removed.append(path.partition("/cache/")[2])
        return closed

    with bucket.trouble(closed=note), monkeypatch.context() as patch:
        patch.setattr("schemas.storage.objects.TRIES", 1)
        assert f"cannot remove {url}/" in run("repair", url, code=2)
    writes = iter(range(1_000))
    with bucket.trouble(closed=note):
        said = run("repair", url).splitlines()
    gone = [*damaged, "added/1/shards/00001"]
    dropped = [line for line in said if line.startswith("dropped: ")]
    assert len(dropped) == 4 and all(any(f"{url}/{shard}" in line for line in dropped) for shard in gone), said
    assert said[-1].startswith(f"{url}: 4 of {2 * len(list(local.glob('shards/*')))} shards were dropped, the others ")
    assert set(removed[:2]) == {"index.parquet", "checksums.json"}  # first of all
    for shard in damaged:
        assert removed.index(f"{shard}/{RECORD}") == min(removed.index(name) for name in removed if shard in name)
    whole = bytes_below(local)
    kept = {name: content for name, content in whole.items() if not name.startswith(tuple(f"{name}/" for name in gone))}
    assert published(bucket) == {name: content for name, content in kept.items() if name not in removed[:2]}
    assert len(extend_here(config(local, url))) == 3


def test_a_network_that_fails_is_no_damage(
    bucket: Bucket, url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("schemas.storage.objects.TRIES", 1)
    key = chunk_of(bucket, "shards/00001")
    with (
        bucket.trouble(closed=lambda method, path: path.endswith(key)),
        pytest.raises(StorageError, match="cannot fetch"),
    ):
        repair_cache(locate_anywhere(url))


def test_nobody_repairs_or_indexes_what_another_writes(url: str) -> None:
    with locked(working_folder(locate_anywhere(url)), print):
        for command in ("repair", "reindex"):
            assert f"another extraction is writing to {url}: process " in run(command, url, code=2)


def test_what_seals_a_cache_in_a_bucket_is_made_anew(bucket: Bucket, url: str, local: Path) -> None:
    for name in ("index.parquet", "checksums.json"):
        bucket.remove(f"cache/{name}")
    assert run("reindex", url).splitlines()[-1] == f"{url}: index of 6 samples"


def test_a_plan_tells_what_a_cache_in_a_bucket_lacks(
    bucket: Bucket, url: str, local: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setenv("COLUMNS", "1000")
    (tmp_path / "extract.yaml").write_text(dump_config(config(local, local)))
    units = len(list(local.glob("shards/*")))

    def to_do(*overrides: str) -> str:
        show_plan(tmp_path / "extract.yaml", [f"output={url}", *overrides])
        (line,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith(("still to do", "refused")))
        return line.split(None, 3 if line.startswith("still") else 1)[-1].strip()

    assert to_do() == "nothing: all its shards are there"
    bucket.remove("cache/shards/00001/shard.json")
    assert to_do().startswith(f"1 of {units} units (hidden/1, mass/1), about ")
    assert to_do("states.hidden=[1]").startswith(f"{url} is there: the cache holds hidden/0, and its config does not ")
    bucket.put("cache/shards/00001/shard.json", (local / "shards/00001/shard.json").read_bytes())


def test_a_cache_in_a_bucket_is_replayed_shown_and_compared(url: str, local: Path) -> None:
    teacher = str(local.parent / "teacher")
    said = run("verify", url, "--replay", "2", "--teacher", teacher)
    assert said.splitlines()[-1] == f"{url}: 2 samples are what {teacher} gives for each alone"
    shown = run("inspect", url)
    assert shown.replace(url, str(local)) == run("inspect", str(local))
    assert run("diff", url, str(local)).splitlines()[-1] == "they hold the same"
