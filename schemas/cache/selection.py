"""Some samples of a cache, in an order of one's own: what several teachers have in common."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from schemas.cache.arrays import ArrayRecord
from schemas.cache.readable import ReadableCache
from schemas.cache.reader import Cache
from schemas.cache.samples import CachedSample
from schemas.errors import CacheError
from schemas.shown import quoted


class CacheSelection(ReadableCache):
    """The samples at some positions of a cache, as if it held no others."""

    def __init__(self, cache: Cache, positions: np.ndarray):
        """`positions` [samples] are those in `cache`, in the order in which they are read."""
        self._cache, self._positions = cache, positions
        self.path, self.manifest, self.tables = cache.path, cache.manifest, cache.tables
        self.tokens = cache.tokens[positions]

    def __len__(self) -> int:
        return len(self._positions)

    def __str__(self) -> str:
        return str(self._cache)

    @property
    def fingerprint(self) -> str:
        """The cache's: which of its samples are read follows from what it is read with."""
        return self._cache.fingerprint

    def position(self, sample_id: str) -> int:
        """Raises CacheError if there is no such sample."""
        found = np.flatnonzero(self._positions == self._cache.position(sample_id))
        if not len(found):
            raise CacheError(f"{self}: the sample {quoted(sample_id)} is not among those that all teachers hold")
        return int(found[0])

    def sample(self, position: int) -> CachedSample:
        """Raises as `Cache.sample` does."""
        return self._cache.sample(self._positions.item(position))

    def states(self, position: int, arrays: Sequence[ArrayRecord]) -> list[Any]:
        """This sample's rows of each array, as `Cache.states` gives them."""
        return self._cache.states(self._positions.item(position), arrays)

    def tables_of(self, position: int) -> int:
        """Which of `tables` decode this sample's states."""
        return self._cache.tables_of(self._positions.item(position))


def common_samples(caches: Sequence[Cache]) -> list[CacheSelection]:
    """The samples whose ids all `caches` hold, in the order of the first, of each of them.

    Raises CacheError: a cache is named twice, there are none, or an id stands for different texts. Of two plain texts
    one begins with the other, because teachers may cut at different lengths; of conversations each reads its own.
    """
    seen = dict[str, Cache]()
    for cache in caches:
        if (same := seen.setdefault(cache.fingerprint, cache)) is not cache:
            raise CacheError(f"{same} and {cache} are the same cache; name it once, with the sum of its weights")
    shared = [name for name in caches[0].positions if all(name in cache.positions for cache in caches[1:])]
    if not shared:
        raise CacheError(
            f"{', '.join(map(str, caches))} have no sample in common: several teachers teach from one corpus, whose "
            "samples have the same ids (corpus.id)"
        )
    places = [np.array([cache.positions[name] for name in shared], np.int64) for cache in caches]
    first = caches[0].manifest.corpus.sha256
    for cache, own in zip(caches[1:], places[1:], strict=True):
        if cache.manifest.corpus.sha256 != first:
            _require_same_texts((caches[0], places[0]), (cache, own))
    return [CacheSelection(cache, own) for cache, own in zip(caches, places, strict=True)]


def _require_same_texts(first: tuple[Cache, np.ndarray], other: tuple[Cache, np.ndarray]) -> None:
    for left_place, right_place in zip(first[1].tolist(), other[1].tolist(), strict=True):
        left, right = first[0].sample(left_place), other[0].sample(right_place)
        alike = left.text.startswith(right.text) or right.text.startswith(left.text)
        if not alike and not (left.is_conversation and right.is_conversation):
            raise CacheError(
                f"{first[0]} and {other[0]} hold different texts by the id {quoted(left.id)}: several teachers teach "
                "from one corpus"
            )
