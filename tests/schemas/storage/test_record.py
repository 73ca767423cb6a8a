"""One reader for every record: whatever stands in the file, the error is the caller's, and names file and place."""

import json
import os
from pathlib import Path
from typing import Any, Literal

import pytest

from schemas.errors import CacheError, RunError, StillroomError
from schemas.storage.record import names_format, parse_object, read_record
from schemas.strict import Strict


class Example(Strict):
    """A record of two versions."""

    format: Literal["example"] = "example"
    version: Literal[1, 2] = 2
    rows: int
    share: float = 0.5
    names: dict[str, Any] = {}


GOOD: dict[str, Any] = {"format": "example", "version": 1, "rows": 3}


def write(folder: Path, content: str | bytes) -> Path:
    path = folder / "example.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_every_known_version_is_read(tmp_path: Path) -> None:
    for version in (1, 2):
        path = write(tmp_path, json.dumps(GOOD | {"version": version, "names": {"é": [1, {"a": None}]}}))
        found = read_record(path, Example, CacheError, "no example")
        assert found == Example(version=version, rows=3, names={"é": [1, {"a": None}]})


@pytest.mark.parametrize("raises", [CacheError, RunError])
@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "is damaged: not JSON"),
        ("{", "is damaged: not JSON"),
        ("[1]", r"not JSON \(it is not an object\)"),
        (b"\xff", "is damaged: not JSON .*utf-8"),
        ("[" * 200_000, "is damaged: it is nested too deeply"),
        ('{"a":' * 70 + "1" + "}" * 70, "is damaged: it is nested too deeply"),
        (json.dumps(GOOD | {"names": {"a": "\ud800"}}), "is damaged: not JSON .*surrogates"),
        (json.dumps(GOOD | {"names": {"\udfff": 1}}), "is damaged: not JSON .*surrogates"),
        (json.dumps(GOOD | {"share": float("nan")}), "is damaged: not JSON .*not JSON compliant"),
        (json.dumps(GOOD).replace("3", "1e999"), "is damaged: not JSON .*not JSON compliant"),
        (json.dumps(GOOD).replace("3", "9" * 5000), "is damaged: not JSON"),
        (json.dumps(GOOD).replace('"rows"', '"version": 2, "rows"'), "a key is given twice"),
        (json.dumps({"format": "example", "version": 2}), "is damaged: rows: Field required"),
        (json.dumps(GOOD | {"more": 1, "rows": "many"}), "is damaged: rows: .*; more: "),
        (json.dumps(GOOD | {str(n): n for n in range(20)}), "; and 12 more"),
        (
            json.dumps(GOOD | {"version": 3}),
            "this is 'example' version 3; this stillroom reads 'example' version 1 or 2",
        ),
        (json.dumps(GOOD | {"version": [1]}), r"version \[1\]; this"),
        (json.dumps(GOOD | {"format": "x" * 1000, "version": 9, "rows": "many"}), "this is 'x{79} version 9;"),
        (json.dumps({}), "this is None version None"),
    ],
)
def test_what_is_not_a_record_ends_in_one_error(
    tmp_path: Path, raises: type[StillroomError], content: str | bytes, said: str
) -> None:
    path = write(tmp_path, content)
    with pytest.raises(raises, match=rf"example\.json.*{said}") as caught:
        read_record(path, Example, raises, "no example")
    assert len(str(caught.value)) < 1000 + len(str(tmp_path))


def test_what_is_not_a_small_regular_file_is_not_read(tmp_path: Path) -> None:
    with pytest.raises(CacheError, match=r"^there is no run: there is no example\.json$"):
        read_record(tmp_path / "example.json", Example, CacheError, "there is no run")
    with pytest.raises(CacheError, match="it is larger than the 10 bytes"):
        read_record(write(tmp_path, json.dumps(GOOD)), Example, CacheError, "no example", limit=10)
    os.mkfifo(tmp_path / "pipe.json")
    for path, said in [(tmp_path / "pipe.json", "it is a pipe"), (Path("/dev/zero"), "a device"), (tmp_path, "folder")]:
        with pytest.raises(CacheError, match=f"cannot read .*{said}"):
            read_record(path, Example, CacheError, "no example")


def test_objects_without_a_version_are_read_alike(tmp_path: Path) -> None:
    assert parse_object(b'{"a": [1, 2.5, null, "\\ud83d\\ude42"]}', tmp_path, RunError) == {"a": [1, 2.5, None, "🙂"]}


def test_a_record_says_what_it_is_though_it_is_damaged(tmp_path: Path) -> None:
    whole, cut = '{"version":9,"format":"a-thing"}', '{"format": "a-thing", "ver'
    for content, found in ((cut, True), (whole, True), ("{}", False)):
        (tmp_path / "a.json").write_text(content)
        assert names_format(tmp_path / "a.json", "a-thing") is found
    assert not names_format(tmp_path, "a-thing") and not names_format(tmp_path / "none.json", "a-thing")
    assert not names_format(tmp_path / ("x" * 300), "a-thing") and not names_format(tmp_path / "a\0b", "a-thing")
