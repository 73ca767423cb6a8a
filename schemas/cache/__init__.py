"""The cache on disk, whole: manifest, shards, samples, states, teacher files; how they are read and proven."""
