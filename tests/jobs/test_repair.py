"""`stillroom repair`: exactly the damaged shards go, and extraction has these alone to make."""

import errno
import os
import shutil
import tempfile
from pathlib import Path

import pytest

from jobs.repair import repair_cache
from pipeline.output.resume import find_complete, open_output
from schemas.cache.manifest import read_manifest
from schemas.cache.reader import Cache
from schemas.errors import CacheError, ResourceError
from tests.caches import smallest_cache
from tests.files import as_no_root, damage
from tests.tiny import TEXTS

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "cache-1"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return smallest_cache(tmp_path_factory.mktemp("repair"), 6, 30)


def contents(cache: Path) -> dict[str, bytes]:
    """Every file except the log, which tells times."""
    files = (path for path in sorted(cache.rglob("*")) if path.is_file() and path.name != "extraction.jsonl")
    return {path.relative_to(cache).as_posix(): path.read_bytes() for path in files}


def test_what_is_damaged_goes_and_is_what_extraction_lacks(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cache = Path(shutil.copytree(made, tmp_path / "cache"))
    whole, shards = contents(cache), sorted(cache.glob("shards/*"))
    damage(shards[0] / "samples.arrow")
    damage(shards[-1] / "shard.json")
    others = {path: path.stat().st_mtime_ns for path in shards[1:-1]}
    repair_cache(cache)
    said = capsys.readouterr().out.splitlines()
    assert said[0] == f"dropped: {shards[0] / 'samples.arrow'} does not have its checksum"
    assert said[1] == f"dropped: {shards[-1] / 'shard.json'} does not have its checksum"
    assert said[-1].startswith(f"{cache}: 2 of {len(shards)} shards were dropped, the others are as they were. Run ")
    assert sorted(cache.glob("shards/*")) == shards[1:-1] and others == {p: p.stat().st_mtime_ns for p in others}
    with pytest.raises(CacheError, match="is not complete"):
        Cache(cache)
    manifest, said_by_extraction = read_manifest(cache), list[str]()
    assert find_complete(cache, manifest) is None
    with open_output(cache, manifest, said_by_extraction.append) as output:
        assert sorted(output.done) == list(range(1, len(shards) - 1)) and said_by_extraction == []
    assert {name: whole[name] for name in contents(cache) if name.startswith("shards")} == {
        name: content for name, content in contents(cache).items() if name.startswith("shards")
    }


def test_what_is_whole_is_left_alone(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = contents(made)
    repair_cache(made)
    assert contents(made) == before and len(TEXTS) > 6
    assert capsys.readouterr().out.splitlines()[-1].startswith(f"{made}: all ")


def test_what_is_no_cache_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CacheError):
        repair_cache(tmp_path)
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_removed_is_said_and_a_missing_shard_is_damage(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cache = Path(shutil.copytree(made, tmp_path / "cache"))
    first, second, *_ = sorted(cache.glob("shards/*"))
    damage(first / "samples.arrow")

    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied", "samples.arrow")  # without its folder, as by `rmtree`

    with monkeypatch.context() as patched:
        patched.setattr("schemas.storage.published.shutil.rmtree", refuse)
        with pytest.raises(CacheError, match=f"^cannot remove {first}: Permission denied; what was dropped before"):
            repair_cache(cache)
        (first / "shard.json").unlink()  # what extraction finds, too, which asks for sizes alone
        with (
            pytest.raises(CacheError, match=f"^cannot remove {first}: Permission denied$"),
            open_output(cache, read_manifest(cache), print),
        ):
            pass
    assert "dropped:" not in capsys.readouterr().out and first.exists()
    with pytest.raises(CacheError, match="is not complete"):
        Cache(cache)
    shutil.rmtree(second)
    repair_cache(cache)
    dropped, last = capsys.readouterr().out.splitlines()
    assert dropped.startswith("dropped: ") and not first.exists()
    left = len(list(made.glob("shards/*"))) - 1  # what is missing by now, extraction makes
    assert last.startswith(
        f"{cache}: 1 of {left} shards were dropped, the others are as they were, and 1 are still to be"
    )


def test_of_a_complete_cache_a_missing_shard_is_damaged_and_of_an_incomplete_one_not_made_yet(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cache = Path(shutil.copytree(made, tmp_path / "cache"))
    total = len(list(made.glob("shards/*")))
    shutil.rmtree(cache / "shards/00001")
    repair_cache(cache)
    dropped, last = capsys.readouterr().out.splitlines()
    assert dropped == f"dropped: there is no complete shard at {cache}/shards/00001: there is no shard.json"
    assert last == (
        f"{cache}: 1 of {total} shards were dropped, the others are as they were. Run `stillroom extract` with the "
        "cache's config to make them again, byte for byte; until then, nobody can train from it"
    )
    repair_cache(cache)
    assert capsys.readouterr().out.splitlines() == [
        f"{cache}: all {total - 1} shards that are there are whole; nothing was dropped, and 1 are still to be made: "
        "run `stillroom extract` with the cache's config"
    ]


def test_what_nothing_makes_again_is_named_and_stays(tmp_path: Path) -> None:
    cache = Path(shutil.copytree(GOLDEN, tmp_path / "cache"))
    shard = cache / "shards/00001"
    damage(shard / "samples.arrow")
    before = contents(cache)
    with pytest.raises(CacheError) as refused:
        repair_cache(cache)
    assert str(refused.value).splitlines() == [
        f"1 of {len(list(cache.glob('shards/*')))} shards are damaged, and none was dropped:",
        f"  {shard}/samples.arrow does not have its checksum",
        f"{cache} is of format 1, which is not written any more: bring the damaged files back from another copy of it, "
        "or extract to another output",
    ]
    assert contents(cache) == before and not (cache / ".writer").exists()


def test_of_a_damaged_shard_behind_a_link_the_link_goes_alone(made: Path, tmp_path: Path) -> None:
    cache, elsewhere = Path(shutil.copytree(made, tmp_path / "cache")), tmp_path / "another disk"
    shard = cache / "shards" / "00001"
    shutil.move(shard, elsewhere)
    shard.symlink_to(elsewhere)
    repair_cache(cache)
    assert shard.is_symlink()
    damage(elsewhere / "samples.arrow")
    behind = contents(elsewhere)
    repair_cache(cache)
    assert not os.path.lexists(shard) and contents(elsewhere) == behind
    with open_output(cache, read_manifest(cache), print) as output:
        assert set(output.done) == {0, *range(2, len(list(made.glob("shards/*"))))}


def test_a_shard_behind_a_link_to_what_is_not_there_is_not_damaged(made: Path, tmp_path: Path) -> None:
    """A disk that is not mounted: nothing of it is made anew."""
    cache, shard = Path(shutil.copytree(made, tmp_path / "cache")), tmp_path / "cache" / "shards" / "00001"
    shutil.rmtree(shard)
    shard.symlink_to(tmp_path / "another disk")
    with pytest.raises(ResourceError, match=f"{shard} is a link to {tmp_path}/another disk, which is not there"):
        repair_cache(cache)
    (cache / "index.parquet").unlink()
    with (
        pytest.raises(ResourceError, match=r"is a link to .* which is not there"),
        open_output(cache, read_manifest(cache), print),
    ):
        pass
    assert shard.is_symlink()


def test_a_file_in_the_place_of_a_shard_goes(made: Path, tmp_path: Path) -> None:
    cache, shard = Path(shutil.copytree(made, tmp_path / "cache")), tmp_path / "cache" / "shards" / "00001"
    shutil.rmtree(shard)

    def begin_extraction(cache: Path) -> None:
        with open_output(cache, read_manifest(cache), print):
            pass

    for drops in (repair_cache, begin_extraction):
        shard.write_text("not a folder")
        drops(cache)
        assert not os.path.lexists(shard) and len(list(cache.glob("shards/*"))) == len(list(made.glob("shards/*"))) - 1


def test_a_shard_whose_files_are_links_to_what_is_not_there_is_not_damaged(made: Path, tmp_path: Path) -> None:
    """As git-annex and DVC leave it until its content is fetched."""
    cache, samples = Path(shutil.copytree(made, tmp_path / "cache")), tmp_path / "cache/shards/00001/samples.arrow"
    samples.unlink()
    samples.symlink_to(tmp_path / "not fetched")
    before, said = sorted(cache.rglob("shards/**/*")), rf"^{samples} is a link to {tmp_path}/not fetched, which is not"
    with pytest.raises(ResourceError, match=said):
        repair_cache(cache)
    with pytest.raises(ResourceError, match=said), open_output(cache, read_manifest(cache), print):
        pass
    assert sorted(cache.rglob("shards/**/*")) == before and (cache / "index.parquet").exists()


@pytest.mark.parametrize(
    ("name", "number"), [("shard.json", errno.EMFILE), ("shard.json", errno.ESTALE), ("samples.arrow", errno.EIO)]
)
def test_what_the_machine_cannot_read_is_not_damaged(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, number: int
) -> None:
    """Too many files that are open, a server of files that was begun anew, a disk that fails."""
    cache, failing = Path(shutil.copytree(made, tmp_path / "cache")), tmp_path / "cache/shards/00001" / name
    whole = contents(cache)

    def fail(path: Path) -> None:
        if path == failing:
            raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr("schemas.storage.regular.require_regular", fail)
    said = rf"^cannot read {failing}: {os.strerror(number)}\. That is no damage to it.* nothing was dropped$"
    with pytest.raises(ResourceError, match=said):
        repair_cache(cache)
    if name == "shard.json":  # extraction reads no more of a shard
        with pytest.raises(ResourceError, match=said), open_output(cache, read_manifest(cache), print):
            pass
    monkeypatch.undo()
    assert contents(cache) == whole


def test_a_folder_of_shards_that_is_not_there_is_named(made: Path, tmp_path: Path) -> None:
    cache = Path(shutil.copytree(made, tmp_path / "cache"))
    (cache / "shards").rename(tmp_path / "another disk")
    (cache / "shards").symlink_to(tmp_path / "not mounted")
    with pytest.raises(CacheError, match=rf"{cache}/shards is a file, or a link to what is not there\. Bring that"):
        repair_cache(cache)


@pytest.mark.parametrize(
    ("closed", "now"),
    [
        ("shards/00001/samples.arrow", 0),
        ("shards/00001", 0),
        ("shards/00001", 0o444),  # its files' names may be read, and nothing else of them
        ("shards", 0o444),
    ],
)
def test_what_this_user_may_not_read_is_not_damaged(made: Path, closed: str, now: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        cache = Path(shutil.copytree(made, Path(name) / "cache"))
        whole = contents(cache)
        with as_no_root(Path(name)):
            mode = (cache / closed).stat().st_mode
            (cache / closed).chmod(now)
            try:
                with pytest.raises(
                    ResourceError, match=rf"/cache/{closed} is closed to this user.* nothing was dropped"
                ):
                    repair_cache(cache)
            finally:
                (cache / closed).chmod(mode)
        assert contents(cache) == whole


def test_a_closed_folder_of_shards_is_not_taken_for_an_empty_one(made: Path) -> None:
    with tempfile.TemporaryDirectory() as name:
        cache = Path(shutil.copytree(made, Path(name) / "cache"))
        (cache / "index.parquet").unlink()
        said = r"/cache/shards is closed to this user.* nothing was dropped"
        with as_no_root(Path(name)):
            (cache / "shards").chmod(0o444)
            try:
                with pytest.raises(ResourceError, match=said):
                    repair_cache(cache)
                with pytest.raises(ResourceError, match=said), open_output(cache, read_manifest(cache), print):
                    pass
            finally:
                (cache / "shards").chmod(0o755)
        assert contents(cache) == {path: data for path, data in contents(made).items() if path != "index.parquet"}
