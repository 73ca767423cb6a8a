"""No student learns from a flipped bit: a damaged cache is refused, or reads as if nothing had happened to it."""

import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from tests.caches import without_checksums
from tests.flips import damaged, make_cache, outcome, read_all, sample_damage

FLIPS = 120
SECONDS = 60.0


@pytest.fixture(scope="module", params=["exact", "small", {"codec": "fp8"}], ids=str)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    kept: dict[str, Any] = {"hidden": [1, 2], "mass": [2], "pooled": {"pooling": "last"}, "dtype": "bfloat16"}
    kept |= {"top_k": {"k": 4}, "sampled": {"draws": 4}, "encoding": request.param}
    return make_cache(tmp_path_factory.mktemp("flips"), kept)


def test_no_damage_is_learnt_from_in_silence(made: Path, tmp_path: Path) -> None:
    cache = Path(shutil.copytree(made, tmp_path / "cache"))
    truth, started = read_all(cache), time.monotonic()
    found: dict[str, list[str]] = {}
    for damage in sample_damage(cache, FLIPS, seed=0):
        with damaged(cache, damage):
            found.setdefault(outcome(cache, truth, damage), []).append(str(damage))
    assert found.keys() <= {"refused", "identical"}, found
    # What reads as before is what no training reads: descriptions for other Zarr readers, and what encodes.
    unread = ("zarr.json", ".encoder.safetensors")
    assert all(line.partition(":")[0].endswith(unread) for line in found.get("identical", []))
    assert len(found["refused"]) > FLIPS // 3 and time.monotonic() - started < SECONDS
    assert outcome(cache, truth) == "identical"


def test_of_a_cache_without_checksums_what_can_be_told_is(made: Path, tmp_path: Path) -> None:
    """Of the version before: identity, index, shards and head prove each other; what is left over is information."""
    cache = without_checksums(Path(shutil.copytree(made, tmp_path / "cache")))
    truth = read_all(cache)
    silent = []
    for damage in sample_damage(cache, FLIPS, seed=1):
        if damage.path.suffix == ".safetensors" or damage.path.name == "config.json":
            continue  # of which such a cache knows nothing
        with damaged(cache, damage):
            if outcome(cache, truth) == "silent":
                silent.append(str(damage))
    assert all(line.startswith("cache.json: bit") for line in silent), silent
