from pathlib import Path

import pytest

from schemas.storage.objects import read_object
from schemas.storage.settings import storage_settings
from tests.buckets import Bucket


def test_what_a_storage_is_reached_by_goes_along_and_nothing_else(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {name: value for name, value in bucket.server.settings().items() if name.startswith("AWS_")}
    assert storage_settings() == {}  # nothing was asked of any
    bucket.put("a", b"1")
    read_object(f"{bucket.url}/a")
    for name in ("AWS_PROFILE", "GOOGLE_CLOUD_PROJECT", "SECRET"):
        monkeypatch.setenv(name, "mine")
    monkeypatch.setenv("AWS_CA_BUNDLE", str(tmp_path))
    monkeypatch.setenv("FSSPEC_S3_ANON", "false")
    assert storage_settings() == given | {"FSSPEC_S3_ANON": "false"}
