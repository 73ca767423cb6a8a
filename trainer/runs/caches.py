"""What a run learns from: the cache of a corpus, or several as one, or those of several teachers of one corpus; and
where a loss asks for it one of texts that the student wrote."""

import logging
import math

from schemas.cache.readable import ReadableCache
from schemas.cache.reader import Cache
from schemas.cache.selection import common_samples
from schemas.cache.union import open_readable
from schemas.configs.losses.base import Texts
from schemas.configs.training import TrainingConfig
from schemas.errors import RunError
from schemas.storage.fingerprint import differences

Caches = dict[str, ReadableCache]
"""By the name of a source: `corpus`, of several teachers the first, and `teacher-2` and so on; `student`."""

logger = logging.getLogger(__name__)


def open_caches(config: TrainingConfig, corpus: ReadableCache | None = None) -> Caches:
    """What `config` names, by source; `corpus` is used if it is open already, except where there are several teachers.

    Raises CacheError: no cache, damaged, not sealed, or several that cannot be read as one, or have no sample in
    common. RunError: the student's texts are of another teacher.
    """
    if len(config.weights) > 1:
        return _open_teachers(config)
    caches: Caches = {"corpus": corpus if corpus is not None else open_readable(config.caches)}
    if config.student_cache is not None:
        caches["student"] = open_readable([config.student_cache])
        _require_one_teacher(caches["student"], caches["corpus"])
    return caches


def _open_teachers(config: TrainingConfig) -> Caches:
    whole = [Cache(path, len(config.caches)) for path in config.caches]
    found = common_samples(whole)
    if left_out := [f"{len(cache) - len(found[0]):,} of {cache}" for cache in whole if len(cache) > len(found[0])]:
        logger.warning("samples that not all teachers hold are left out: %s", ", ".join(left_out))
    return {"corpus" if not number else f"teacher-{number + 1}": cache for number, cache in enumerate(found)}


def texts_of(source: str) -> Texts:
    """Whose texts a source holds."""
    return "student" if source == "student" else "corpus"


def weight_of(config: TrainingConfig, source: str, caches: Caches) -> float:
    """The factor of the objective over a source."""
    return config.weights[list(caches).index(source)] if len(config.weights) > 1 else 1.0


def join_fingerprints(caches: Caches, weights: tuple[float, ...] = ()) -> str:
    """The identity of all that the run reads, and of several teachers their weights; that of a single cache is its own
    fingerprint."""
    found = [cache.fingerprint for cache in caches.values()]
    if len(weights) > 1:
        found = [f"{weight!r}*{fingerprint}" for weight, fingerprint in zip(weights, found, strict=True)]
    return "+".join(found)


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
