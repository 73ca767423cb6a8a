"""The caches that a run learns from: the corpus's, and where a loss asks for it one of texts that the student wrote."""

import math

from schemas.cache.reader import Cache
from schemas.configs.losses.base import Texts
from schemas.configs.training import TrainingConfig
from schemas.errors import RunError
from schemas.storage.fingerprint import differences

Caches = dict[Texts, Cache]


def open_caches(config: TrainingConfig, corpus: Cache | None = None) -> Caches:
    """The caches of `config` by the texts that they hold; `corpus` is used if it is open already.

    Raises CacheError: no cache, damaged, or not sealed. RunError: the two are not of one teacher.
    """
    caches: Caches = {"corpus": corpus if corpus is not None else Cache(config.cache)}
    if config.student_cache is not None:
        caches["student"] = Cache(config.student_cache)
        _require_one_teacher(caches["student"], caches["corpus"])
    return caches


def join_fingerprints(caches: Caches) -> str:
    """The identity of all that the run reads; that of a single cache is its own fingerprint."""
    return "+".join(cache.manifest.fingerprint for cache in caches.values())


def count_steps(config: TrainingConfig, samples: int) -> int:
    """Optimiser steps of the whole run over a corpus of `samples`; a last step may begin another epoch."""
    if config.steps is not None:
        return config.steps
    assert config.epochs is not None  # the config has one of the two
    return math.ceil(config.epochs * samples / (config.batch_size * config.accumulation))


def _require_one_teacher(student: Cache, corpus: Cache) -> None:
    lines = list(differences(student.manifest.identity["teacher"], corpus.manifest.identity["teacher"]))
    if lines:
        raise RunError(
            f"{student.path} and {corpus.path} are not of one teacher, run in one way:\n  " + "\n  ".join(lines)
        )
