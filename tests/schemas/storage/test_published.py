import os
from pathlib import Path

import pytest

from schemas.storage.atomic import folder_beside
from schemas.storage.published import (
    commit_folder,
    file_beside,
    publish_below,
    published_at,
    remove_file,
    remove_folder,
    seen_apart,
    write_text,
)
from schemas.storage.remote import named
from tests.buckets import Bucket


def make(folder: Path, target: Path, content: str, kept: tuple[str, ...] | None = None) -> bool:
    """Commit a folder of three files, of which c.json says that it is complete."""
    with folder_beside(target) as beside:
        (beside / "a").mkdir()
        (beside / "a" / "1").write_text(content * 100)
        (beside / "b").write_text(content)
        (beside / "c.json").write_text(content)
        return commit_folder(beside, target, "c.json", kept)


def test_what_is_written_below_a_published_folder_appears_at_its_url(bucket: Bucket) -> None:
    folder = publish_below(f"{bucket.url}/x")
    assert published_at(folder / "a" / "b") == f"{bucket.url}/x/a/b"
    assert named(f"{folder}/a") == f"{bucket.url}/x/a"
    write_text(folder / "a.json", "1")
    with file_beside(folder / "b") as path:
        path.write_bytes(b"2")
    assert make(folder, folder / "s" / "0", "x", kept=("b",))
    assert {key: bucket.get(key) for key in bucket.keys()} == {  # noqa: SIM118 - of a bucket
        "x/a.json": b"1",
        "x/b": b"2",
        "x/s/0/a/1": b"x" * 100,
        "x/s/0/b": b"x",
        "x/s/0/c.json": b"x",
    }
    here = {path.name: path.read_bytes() for path in (folder / "s" / "0").rglob("*") if path.is_file()}
    assert here == {"1": b"\0" * 100, "b": b"x", "c.json": b"x"}
    remove_file(folder / "a.json")
    remove_file(folder / "a.json")
    remove_folder(folder / "s" / "0", "c.json")
    assert bucket.keys() == ["x/b"]
    assert sorted(path.name for path in folder.rglob("*")) == ["b", "s"]


def test_a_folder_that_is_complete_at_its_url_is_not_written_again(bucket: Bucket) -> None:
    folder = publish_below(f"{bucket.url}/x")
    bucket.put("x/s/0/c.json", b"another's")
    assert not make(folder, folder / "s" / "0", "x")
    assert bucket.keys() == ["x/s/0/c.json"]
    assert bucket.get("x/s/0/c.json") == b"another's"


def test_its_last_file_is_written_after_all_others(bucket: Bucket) -> None:
    folder, written = publish_below(f"{bucket.url}/x"), list[str]()

    def note(method: str, path: str) -> bool:
        if method == "PUT":
            written.append(path.rpartition("/")[2])
        return False

    with bucket.trouble(closed=note):
        make(folder, folder / "s" / "0", "x")
    assert sorted(written[:-1]) == ["1", "b"]
    assert written[-1] == "c.json"


def test_elsewhere_nothing_is_published(bucket: Bucket, tmp_path: Path) -> None:
    folder = publish_below(f"{bucket.url}/x")
    for path in (tmp_path / "a", folder.parent / "y", folder / ".lock", folder / ".tmp" / "a"):
        assert published_at(path) is None
    assert make(tmp_path, tmp_path / "s" / "0", "x")
    assert not make(tmp_path, tmp_path / "s" / "0", "y")
    remove_folder(tmp_path / "s" / "0")
    with pytest.raises(FileNotFoundError):
        remove_folder(tmp_path / "s" / "0")
    assert bucket.keys() == []


def test_what_is_looked_at_apart_is_gone_at_the_end_and_what_a_kill_left_of_another_look(bucket: Bucket) -> None:
    url = f"{bucket.url}/x"
    with seen_apart(url) as first:
        top = first.parents[2]
        left, young = top.with_name(".left"), top.with_name(".young")
        for path in (left, young):
            (path / "s3").mkdir(parents=True)
        for path in (left, top):
            os.utime(path, (0, 0))
        with seen_apart(url) as second:
            assert second != first
            assert sorted(top.parent.iterdir()) == sorted([top, second.parents[2], young])
            assert published_at(first / "a") == published_at(second / "a") == f"{url}/a"
            assert named(f"{first}/a") == named(f"{second}/a") == f"{url}/a"
    assert list(top.parent.iterdir()) == [young]
    assert published_at(first / "a") is None
