import threading
from datetime import timedelta
from pathlib import Path

import pytest
from fsspec.config import conf

from schemas.storage.written_objects import create_object, last_change, put_file, put_files, put_object, remove_objects
from tests.buckets import Bucket


def test_what_is_written_is_read_by_another_client(bucket: Bucket, tmp_path: Path) -> None:
    put_object(f"{bucket.url}/a", b"one")
    put_object(f"{bucket.url}/a", b"two")
    contents = {tmp_path / str(number): bytes([number]) * 70_000 for number in range(20)}
    for path, content in contents.items():
        path.write_bytes(content)
    with bucket.trouble(errors=0.05):
        put_files({path: f"{bucket.url}/files/{path.name}" for path in contents})
    assert bucket.get("a") == b"two"
    assert {key: bucket.get(key) for key in bucket.keys("files/")} == {
        f"files/{path.name}": content for path, content in contents.items()
    }
    put_file(tmp_path / "1", f"{bucket.url}/files/0")
    assert bucket.get("files/0") == contents[tmp_path / "1"]
    remove_objects([f"{bucket.url}/files/0", f"{bucket.url}/files/0", f"{bucket.url}/files/1"])
    assert len(bucket.keys("files/")) == 18
    assert abs(last_change(f"{bucket.url}/files/2") - last_change(f"{bucket.url}/a")) < timedelta(seconds=60)


def test_of_many_that_create_one_file_one_does(bucket: Bucket) -> None:
    made: list[int] = []

    def create(number: int) -> None:
        if create_object(f"{bucket.url}/lock", b"%d" % number):
            made.append(number)

    threads = [threading.Thread(target=create, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [bucket.get("lock")] == [b"%d" % number for number in made]


def test_an_answer_that_got_lost_is_no_others_file(bucket: Bucket) -> None:
    """The server has written it when the client gives up: at the second try it stands there already."""
    answers = iter([True, False, False])
    with bucket.trouble(lost=lambda method, path: method == "PUT" and next(answers)):
        assert create_object(f"{bucket.url}/lock", b"mine")
    assert not create_object(f"{bucket.url}/lock", b"other")
    assert bucket.get("lock") == b"mine"


def test_a_connection_that_stays_open_is_waited_for_so_long(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("schemas.storage.written_objects.ANSWER_SECONDS", 1.0)
    monkeypatch.setitem(conf, "s3", {"config_kwargs": {"read_timeout": 60.0}})
    answered, answers = threading.Event(), iter([True, False, False])

    def hold(method: str, path: str) -> bool:
        return method == "PUT" and next(answers) and not answered.wait(20)

    with bucket.trouble(lost=hold):
        assert create_object(f"{bucket.url}/lock", b"mine")
    answered.set()
