"""Where the shards of a cache lie: CACHE/shards/00007, and CACHE/added/1/shards/00007 of arrays that were added."""

from pathlib import Path

SHARDS = "shards"
ADDED = "added"


def cache_of(path: Path) -> Path:
    """The cache of a shard, or of a file below it; of any other path, that path. Asks no disk."""
    shards = next((folder for folder in path.parents if folder.name == SHARDS), None)
    if shards is None:
        return path
    of_added = shards.parents[1].name == ADDED and shards.parent.name.isdigit()
    return shards.parents[2] if of_added else shards.parent
