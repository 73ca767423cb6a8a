from importlib.util import find_spec
from pathlib import Path

import pytest

from schemas.storage import remote
from schemas.storage.remote import copies_home, copy_path, is_remote, locate_anywhere, named, other_names, url_of


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("STILLROOM_CACHE", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.mark.parametrize(
    ("url", "below"),
    [
        ("s3://bucket/a/cache", "s3/bucket/a/cache"),
        ("S3://bucket/a/cache/", "s3/bucket/a/cache"),
        ("memory://a", "memory/a"),
        ("https://host:8080/a b?c=1", "https/host:8080/a b?c=1"),
    ],
)
def test_a_url_and_the_place_of_its_copy_follow_from_each_other(home: Path, url: str, below: str) -> None:
    path = locate_anywhere(url)
    assert path == copy_path(url) == home / below
    scheme, _, rest = url.rstrip("/").partition("://")
    assert url_of(path) == f"{scheme.lower()}://{rest}"
    assert named(f"{path}/cache.json is missing") == f"{scheme.lower()}://{rest}/cache.json is missing"


def test_local_paths_stay_what_they_are(home: Path) -> None:
    for path in (Path("a"), Path("/data/s3/bucket"), home, home / ".things" / "1", home / "s3"):
        assert locate_anywhere(path) == path
        assert url_of(path) is None
        assert named(f"{path} there") == f"{path} there"
    assert not is_remote("C:/cache")
    assert not is_remote("file:///data")


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("nobody://bucket", "of a scheme that nobody here knows"),
        ("local://data/cache", "of a scheme that nobody here knows"),
        ("s3:/bucket/a", "a URL is s3://name/name"),
        ("s3://", "'' is no name for a file"),
        ("s3://bucket//a", "'' is no name for a file"),
        ("s3://bucket/../a", "'..' is no name for a file"),
        ("s3://bucket/.", "'.' is no name for a file"),
        ("s3://bucket/\0", "is no name for a file"),
        ("s3://bucket/" + "é" * 128, "is no name for a file"),
    ],
)
def test_what_is_no_url_is_refused(url: str, said: str) -> None:
    with pytest.raises(ValueError, match=r".") as refused:
        copy_path(url)
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("lacking", "said"),
    [("s3fs", "pip install s3fs"), ("fsspec", r"pip install 'stillroom\[remote\]'")],
)
def test_a_package_that_is_missing_is_named_with_what_installs_it(
    monkeypatch: pytest.MonkeyPatch, lacking: str, said: str
) -> None:
    from fsspec.registry import _registry

    monkeypatch.delitem(_registry, "s3", raising=False)
    monkeypatch.setattr(remote, "find_spec", lambda name: None if name == lacking else find_spec(name))
    with pytest.raises(ValueError, match=said):
        copy_path("s3://bucket/a")


def test_where_copies_are_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("STILLROOM_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert copies_home() == tmp_path / "xdg" / "stillroom"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "user"))
    assert copies_home() == tmp_path / "user" / ".cache" / "stillroom"


def test_schemes_of_one_storage_are_told_to_be() -> None:
    assert other_names("s3") == other_names("s3a") == {"s3", "s3a"}
    assert other_names("hf") == {"hf"} and other_names("nobody") == {"nobody"}
