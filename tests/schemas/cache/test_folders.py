"""The cache that a shard lies in, by its path alone."""

from pathlib import Path

import pytest

from schemas.cache.folders import cache_of


@pytest.mark.parametrize(
    ("path", "cache"),
    [
        ("/c/shards/00007", "/c"),
        ("/c/shards/00007/states.zarr/hidden/1/c/0/0", "/c"),
        ("/c/added/1/shards/00007/shard.json", "/c"),
        ("/shards/added/c/shards/00007", "/shards/added/c"),
        ("/c/added/mine/shards/00007", "/c/added/mine"),
        ("c/shards/00007", "c"),
        ("/anywhere/else", "/anywhere/else"),
    ],
)
def test_a_shard_and_its_files_are_of_the_cache_around_them(path: str, cache: str) -> None:
    assert cache_of(Path(path)) == Path(cache)
