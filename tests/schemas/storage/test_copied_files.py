from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from schemas.errors import CorpusError, ModelError
from schemas.models.files import resolve_model
from schemas.storage.copied_files import copy_files
from schemas.texts.files import find_files
from schemas.texts.records import read_records
from tests.buckets import Bucket


def texts(*patterns: str) -> list[str]:
    """What the records of a corpus say, in order."""
    files = find_files(list(patterns)).files
    return [str(record["text"]) for file in files for _, record in read_records(file)]


def line(text: str) -> bytes:
    return b'{"text": "%s"}\n' % text.encode()


def test_a_corpus_is_read_by_file_folder_and_pattern(bucket: Bucket) -> None:
    for name in ("a.jsonl", "b.jsonl", "part1/c.jsonl", "part2/d.jsonl", "part2/README.md"):
        bucket.put(f"data/{name}", line(name))
    assert texts(f"{bucket.url}/data/b.jsonl", f"{bucket.url}/data/a.jsonl") == ["b.jsonl", "a.jsonl"]
    assert texts(f"{bucket.url}/data/*.jsonl") == ["a.jsonl", "b.jsonl"]
    assert texts(f"{bucket.url}/data/part*") == ["part1/c.jsonl", "part2/d.jsonl"]
    assert texts(f"{bucket.url}/data") == ["a.jsonl", "b.jsonl", "part1/c.jsonl", "part2/d.jsonl"]
    for nothing, said in (("c.jsonl", "there is no corpus file"), ("*.csv", "no file matches")):
        with pytest.raises(CorpusError, match=said):
            find_files([f"{bucket.url}/data/{nothing}"])


def test_what_changes_at_the_source_changes_here(bucket: Bucket) -> None:
    for name in ("a", "b"):
        bucket.put(f"data/{name}.jsonl", line(name))
    assert texts(f"{bucket.url}/data", f"{bucket.url}/data/*.jsonl") == ["a", "b"]
    gets = bucket.door.asked["GET"]
    assert texts(f"{bucket.url}/data/b.jsonl") == ["b"]
    assert bucket.door.asked["GET"] == gets  # it was looked at, and not fetched
    bucket.put("data/a.jsonl", line("x"))  # of the same size
    bucket.remove("data/b.jsonl")
    bucket.put("data/c.jsonl", line("c"))
    assert texts(f"{bucket.url}/data/*.jsonl") == ["x", "c"]
    assert texts(f"{bucket.url}/data") == ["x", "c"]


def test_a_model_is_its_whole_folder(bucket: Bucket) -> None:
    files = {"config.json": b"{}", "1_Pooling/config.json": b"[]", "model.safetensors": b"\0" * 9}
    for name, content in files.items():
        bucket.put(f"models/a/{name}", content)
    folder = resolve_model(f"{bucket.url}/models/a", None)
    found = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert found == files
    assert folder.name == "a"
    with pytest.raises(ModelError, match="there is no model folder s3://"):
        resolve_model(f"{bucket.url}/models/b", None)
    with pytest.raises(ModelError, match="nobody here knows"):
        resolve_model("nobody://models/b", None)


@pytest.fixture
def memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[fsspec.AbstractFileSystem]:
    monkeypatch.setenv("STILLROOM_CACHE", str(tmp_path / "home"))
    files = fsspec.filesystem("memory")
    yield files
    files.store.clear()


def test_other_schemes_work_alike(memory: fsspec.AbstractFileSystem, tmp_path: Path) -> None:
    memory.pipe({"/data/a[1].jsonl": line("a"), "/data/b.jsonl": line("b")})
    assert copy_files("memory://data/a[1].jsonl") == tmp_path / "home" / "memory" / "data" / "a[1].jsonl"
    assert texts("memory://data/a[1].jsonl", "memory://data") == ["a", "b"]
    assert texts("memory://data/?.jsonl") == ["b"]
