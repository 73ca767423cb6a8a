from pathlib import Path

import pytest

from schemas.errors import StorageError
from schemas.storage.objects import (
    fetch_object,
    fetch_objects,
    list_objects,
    look_at,
    match_objects,
    read_object,
    read_objects,
)
from tests.buckets import Bucket


def test_what_another_client_wrote_is_read_listed_and_fetched(bucket: Bucket, tmp_path: Path) -> None:
    files = {"a/1.txt": b"one", "a/b/2.txt": b"two two", "ab.txt": b"x" * 100_000}
    for key, content in files.items():
        bucket.put(key, content)
    assert read_objects(f"{bucket.url}/{key}" for key in files) == list(files.values())
    assert {name: found.bytes for name, found in list_objects(f"{bucket.url}/a").items()} == {"1.txt": 3, "b/2.txt": 7}
    assert list_objects(f"{bucket.url}/nowhere") == {}
    assert {name: found and found.bytes for name, found in match_objects(f"{bucket.url}/a*").items()} == {
        f"{bucket.url}/a": None,
        f"{bucket.url}/ab.txt": 100_000,
    }
    fetch_objects({f"{bucket.url}/{key}": tmp_path / key for key in files})
    assert {key: (tmp_path / key).read_bytes() for key in files} == files


@pytest.mark.parametrize("name", ["a//b", "../b", "a/../../b"])
def test_a_name_that_would_lie_elsewhere_on_a_disk_is_refused(name: str, bucket: Bucket) -> None:
    bucket._client.put_object(Bucket=bucket.name, Key=f"below/{name}", Body=b"1")
    assert bucket.keys() == [f"below/{name}"]
    with pytest.raises(StorageError, match=r"which is no name for a file below a folder"):
        list_objects(f"{bucket.url}/below")


def test_what_was_replaced_has_another_version(bucket: Bucket) -> None:
    bucket.put("a", b"one")
    first = look_at(f"{bucket.url}/a")
    bucket.put("a", b"two")
    second = look_at(f"{bucket.url}/a")
    assert first is not None
    assert second is not None
    assert (first.bytes, second.bytes) == (3, 3)
    assert first.version != second.version
    assert list_objects(bucket.url)["a"] == second
    assert look_at(f"{bucket.url}/b") is None


def test_errors_and_answers_that_are_cut_are_tried_again(bucket: Bucket, tmp_path: Path) -> None:
    content = {f"{number:02d}": bytes([number]) * 5_000 for number in range(40)}
    for key, held in content.items():
        bucket.put(key, held)
    with bucket.trouble(errors=0.05, cut=0.05):
        fetch_objects({f"{bucket.url}/{key}": tmp_path / key for key in content})
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == content


def test_trouble_that_does_not_end_is_told_after_a_bounded_number_of_tries(
    bucket: Bucket, caplog: pytest.LogCaptureFixture
) -> None:
    bucket.put("a", b"one")
    with bucket.trouble(errors=1.0), pytest.raises(StorageError, match=r"\(tried 6 times\)"):
        read_object(f"{bucket.url}/a")
    assert [record.getMessage().rpartition("; ")[2] for record in caplog.records] == [
        f"trying again ({tries} of 5)" for tries in range(1, 6)
    ]


def test_a_server_that_does_not_answer_is_asked_again(bucket: Bucket) -> None:
    bucket.put("a", b"one")
    silences = iter([True, False])
    with bucket.trouble(silent=lambda method, path: next(silences)):
        assert read_object(f"{bucket.url}/a") == b"one"
    assert next(silences, None) is None


def test_what_no_second_try_mends_is_told_at_once(bucket: Bucket, tmp_path: Path) -> None:
    bucket.put("a", b"12345")
    before = bucket.door.asked.total()
    with pytest.raises(FileNotFoundError):
        read_object(f"{bucket.url}/b")
    with pytest.raises(FileNotFoundError):
        read_object("s3://no-such-bucket/b")
    with pytest.raises(StorageError, match="larger than the 4 bytes"):
        read_object(f"{bucket.url}/a", limit=4)
    assert bucket.door.asked.total() - before <= 6
    with pytest.raises(StorageError, match="4 bytes came"):
        fetch_object(f"{bucket.url}/a", tmp_path / "a", 4)
