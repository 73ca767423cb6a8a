"""What a run learns from: the cache of a corpus, or several as one, and where a loss asks for it one of texts that the
student wrote."""

import math

from schemas.cache.readable import ReadableCache
from schemas.cache.union import open_readable
from schemas.configs.losses.base import Texts
from schemas.configs.training import TrainingConfig
from schemas.errors import RunError
from schemas.storage.fingerprint import differences

Caches = dict[Texts, ReadableCache]


def open_caches(config: TrainingConfig, corpus: ReadableCache | None = None) -> Caches:
    """What `config` names, by the texts that it holds; `corpus` is used if it is open already.

    Raises CacheError: no cache, damaged, not sealed, or several that cannot be read as one. RunError: the student's
    texts are of another teacher.
    """
    caches: Caches = {"corpus": corpus if corpus is not None else open_readable(config.caches)}
    if config.student_cache is not None:
        caches["student"] = open_readable([config.student_cache])
        _require_one_teacher(caches["student"], caches["corpus"])
    return caches


def join_fingerprints(caches: Caches) -> str:
    """The identity of all that the run reads; that of a single cache is its own fingerprint."""
    return "+".join(cache.fingerprint for cache in caches.values())


def count_steps(config: TrainingConfig, samples: int) -> int:
    """Optimiser steps of the whole run over a corpus of `samples`; a last step may begin another epoch."""
    if config.steps is not None:
        return config.steps
    assert config.epochs is not None  # the config has one of the two
    return math.ceil(config.epochs * samples / (config.batch_size * config.accumulation))


def _require_one_teacher(student: ReadableCache, corpus: ReadableCache) -> None:
    lines = list(differences(student.manifest.identity["teacher"], corpus.manifest.identity["teacher"]))
    if lines:
        raise RunError(f"{student} and {corpus} are not of one teacher, run in one way:\n  " + "\n  ".join(lines))
