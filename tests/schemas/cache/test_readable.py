"""What no cache holds is named, and the way to have it."""

from pathlib import Path

import pytest

from schemas.cache.reader import Cache
from schemas.errors import CacheError

GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "cache-1"


def test_what_is_not_held_is_named() -> None:
    cache = Cache(GOLDEN)
    assert cache.array("hidden", 1).path == "hidden/1" and str(cache) == str(GOLDEN) and cache.tables == (GOLDEN,)
    assert [array.path for array in cache.arrays_of("mass")] == ["mass/1"]
    with pytest.raises(CacheError, match=r"cache-1 holds no hidden/7 \(it holds hidden/1, .*with that layer in"):
        cache.array("hidden", 7)
    with pytest.raises(
        CacheError, match=r"cache-1 holds no entropy \(.*run `stillroom extend` with it in `states`, too"
    ):
        cache.arrays_of("entropy")
