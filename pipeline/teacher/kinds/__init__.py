"""How a teacher makes each kind of states, one file each, under the names of schemas.cache.kinds."""
