"""The cache folder while it is being made: shards, resuming, disk space, results."""
