"""`stillroom verify`: one line where all is good, and one for every damaged shard."""

import shutil
from pathlib import Path

import pytest

from jobs.verify import verify_cache
from schemas.errors import CacheError
from tests.caches import smallest_cache


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return smallest_cache(tmp_path_factory.mktemp("verify"), 6, 30)


def test_what_is_good_is_counted(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    verify_cache(made)
    shards = sorted(made.glob("shards/*"))
    assert len(shards) > 2
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith(f"{made}: {len(shards)} shards, 6 samples, ")
    assert last.endswith(" tokens; every checksum, row and number is good")


def test_every_damaged_shard_is_named_once(made: Path, tmp_path: Path) -> None:
    cache = Path(shutil.copytree(made, tmp_path / "cache"))
    shards = sorted(cache.glob("shards/*"))
    for shard in (shards[0], shards[-1]):
        path = shard / "samples.arrow"
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(bytes(content))
    with pytest.raises(CacheError) as refused:
        verify_cache(cache)
    first, *lines = str(refused.value).split("\n  ")
    assert first == f"2 of {len(shards)} shards are damaged:" and len(lines) == 2
    named = sorted(line.split("/samples.arrow does not have its checksum")[0] for line in lines)
    assert named == [str(shards[0]), str(shards[-1])]
