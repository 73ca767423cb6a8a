"""Where a path or a URL lies on this machine."""

import re
from pathlib import Path
from typing import Any, cast

import pytest

from schemas.configs.training import EvaluationConfig, StudentConfig
from schemas.errors import ConfigError
from schemas.storage.storage import STORAGES, Storage, locate
from schemas.texts.files import find_files


@pytest.mark.parametrize(
    ("place", "path"),
    [
        ("runs/a", "runs/a"),
        ("/runs/a b", "/runs/a b"),
        ("C:/runs", "C:/runs"),  # a scheme has two letters or more
        ("a:b/c", "a:b/c"),
        ("~/runs/a b", "/the/home/runs/a b"),
        ("~", "/the/home"),
        ("~root", "/root"),
        ("./~/runs", f"{Path.cwd()}/~/runs"),  # a folder of that name
        ("runs/~", "runs/~"),
        ("file:///~/runs", "/~/runs"),
        ("file:///runs/a%20b", "/runs/a b"),
        ("FILE:///runs/a", "/runs/a"),
        ("file:/runs/a", "/runs/a"),
        ("file://localhost/runs/%C3%A9", "/runs/é"),
        ("file:///runs/%FF", "/runs/\udcff"),
    ],
)
def test_a_place_is_a_path(monkeypatch: pytest.MonkeyPatch, place: str, path: str) -> None:
    monkeypatch.setenv("HOME", "/the/home")
    assert locate(place) == locate(locate(place)) == Path(path)
    assert locate(Path("runs/a")) == Path("runs/a")


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("s3://bucket/cache", "'s3://bucket/cache' is a URL, and a path of this machine is wanted: mount the storage"),
        ("s3:/bucket", "or copy the files (URLs of file:// are known)"),
        ("file://host/runs", "not a URL of the storage file: it names the machine 'host'; give file:///folder/name"),
        ("file:///runs/a?b", "it has a `?` or `#` part, which a file does not; write %3F or %23 for the character"),
        ("file:///runs/a#b", "it has a `?` or `#` part"),
        ("~nobody.here/x", "'~nobody.here/x': there is no such home; write ./~ for a folder of that name"),
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


class Lake(Storage):
    name = "lake"

    def __init__(self, answer: Any):
        self.answer = answer

    def locate(self, url: str) -> Path:
        if isinstance(self.answer, Exception):
            raise self.answer
        return cast(Path, self.answer)


@pytest.mark.parametrize(
    ("answer", "raised", "said"),
    [
        (ValueError("it is dry"), ValueError, "'lake://x' is not a URL of the storage lake: it is dry"),
        (Path("x"), ValueError, "'lake://x' is at 'x' by the storage lake: not a whole path"),
        (KeyError("x"), ConfigError, "the storage 'lake' of waters 1.0 failed: KeyError: 'x'; mend that package"),
        ("/x", ConfigError, "waters 1.0 failed: TypeError: its `locate` answered '/x', which is not a Path"),
    ],
)
def test_what_a_storage_answers_is_a_path(
    monkeypatch: pytest.MonkeyPatch, answer: Any, raised: type[Exception], said: str
) -> None:
    monkeypatch.setitem(STORAGES.__dict__, "_found", {"lake": Lake(answer)})
    monkeypatch.setattr(STORAGES, "_packages", {"lake": "waters 1.0"})
    with pytest.raises(raised, match=re.escape(said)):
        locate("lake://x")
