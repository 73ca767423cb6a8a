"""The built-in codecs, one file each; `schemas.cache.codec.CODECS` finds these and others."""
