"""Pages of listings, against what another client lists."""

import pytest

from schemas.storage.objects import list_objects
from tests.buckets import Bucket

NAMES = ("a & b", "<c>", 'd "e"', "f%20g", "h+i", "ä/ö", "j/k", "日本", "x" * 200, "z/")  # the last stands for a folder


def test_sizes_and_tags_are_those_of_another_client_page_by_page(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MOTO_S3_DEFAULT_MAX_KEYS", "3")
    for number, name in enumerate(NAMES):
        bucket.put(f"below/{name}", b"1" * number)
    bucket.put("below", b"a file of that name")
    bucket.put("below it", b"another")
    listed = bucket._client.list_objects_v2(Bucket=bucket.name, Prefix="below/", MaxKeys=1000)["Contents"]
    wanted = {each["Key"].removeprefix("below/"): (each["Size"], each["ETag"]) for each in listed}
    del wanted["z/"]
    before = bucket.door.asked["GET"]
    found = list_objects(f"{bucket.url}/below")
    assert bucket.door.asked["GET"] == before + 4
    assert {name: (about.bytes, about.version) for name, about in found.items()} == {
        name: (size, f"{size} {tag}") for name, (size, tag) in wanted.items()
    }
    assert list(found) == sorted(wanted)


def test_a_page_that_fails_is_asked_for_again_and_no_other(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOTO_S3_DEFAULT_MAX_KEYS", "1")
    for number in range(30):
        bucket.put(f"{number:02d}", b"1")
    with bucket.trouble(errors=0.2):  # of thirty requests in a row, one fails nearly always
        assert list(list_objects(bucket.url)) == [f"{number:02d}" for number in range(30)]
