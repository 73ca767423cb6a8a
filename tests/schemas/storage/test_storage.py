"""Where a path or a URL lies on this machine."""

import re
from pathlib import Path

import pytest

from schemas.configs.training import EvaluationConfig, StudentConfig
from schemas.storage.storage import locate
from schemas.texts.files import find_files


@pytest.mark.parametrize(
    ("place", "path"),
    [
        ("runs/a", "runs/a"),
        ("/runs/a b", "/runs/a b"),
        ("C:/runs", "C:/runs"),  # a scheme has two letters or more
        ("a:b/c", "a:b/c"),
        ("file:///runs/a%20b", "/runs/a b"),
        ("FILE:///runs/a", "/runs/a"),
        ("file:/runs/a", "/runs/a"),
        ("file://localhost/runs/%C3%A9", "/runs/é"),
        ("file:///runs/%FF", "/runs/\udcff"),
    ],
)
def test_a_place_is_a_path(place: str, path: str) -> None:
    assert locate(place) == Path(path)
    assert locate(Path("runs/a")) == Path("runs/a")


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("s3://bucket/cache", "'s3://bucket/cache' is a URL, and a path of this machine is wanted: mount the storage"),
        ("s3:/bucket", "or copy the files (URLs of file:// are known)"),
        ("file://host/runs", "not a URL of the storage file: it names the machine 'host'; give file:///folder/name"),
        ("file:///runs/a?b", "it has a `?` or `#` part, which a file does not; write %3F or %23 for the character"),
        ("file:///runs/a#b", "it has a `?` or `#` part"),
        ("runs/\0", "holds a zero byte, which no name can"),
        ("file:///runs/%00", "holds a zero byte, which no name can"),
        ("runs/\ud800", "surrogates not allowed"),
    ],
)
def test_what_is_no_place_is_refused(place: str, said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        locate(place)


def test_configs_and_corpora_take_urls(tmp_path: Path) -> None:
    assert EvaluationConfig.model_validate({"texts": "file:///held.txt"}).texts == Path("/held.txt")
    assert StudentConfig(model="file:///models/a").model == "/models/a"
    (tmp_path / "a.txt.jsonl").write_text('{"text": "x"}\n')
    assert find_files([f"file://{tmp_path}/*.jsonl"]).files == (tmp_path / "a.txt.jsonl",)
