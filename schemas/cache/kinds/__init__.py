"""The built-in kinds of teacher states, one file each; `schemas.cache.arrays.KINDS` finds these and others."""
