"""Where the shards of a cache lie: CACHE/shards/00007, and CACHE/added/1/shards/00007 of arrays that were added."""

SHARDS = "shards"
ADDED = "added"
