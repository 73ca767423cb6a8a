"""Reading a teacher cache: samples by position or id, states as memory maps of exactly the layers asked for.

Opening costs the manifest and the index. A shard is checked (record, fingerprint, file sizes) when it is first touched;
its numbers are read when they are used, at the speed of a plain memory map. Compressed sentence embeddings, and the
texts of a cache of nothing else, are read into memory then: bytes a sample, not a token.

What was touched stays open as long as the system lets it, at some 13 KB a shard and 1 KB a map: to open a shard takes
as long as to read dozens of warm samples, and in random order every read beyond what is open opens one.
"""

from collections.abc import Sequence
from functools import cache, cached_property, lru_cache
from pathlib import Path

import numpy as np

from schemas.cache.arrays import ArrayRecord, by_kind, keeps_tokens
from schemas.cache.codec import CODECS
from schemas.cache.index import read_index
from schemas.cache.manifest import CacheManifest, read_manifest
from schemas.cache.open_shard import Shard
from schemas.cache.samples import CachedSample
from schemas.cache.shard import ShardRecord, check_shard, shard_path
from schemas.errors import CacheError, PairingError

# A map holds no file descriptor and no memory. What is scarce are the maps themselves: Linux lets a process have so
# many. A quarter is for one cache, for a run may read two, and libraries, heaps and threads take maps, too.
MAX_MAP_COUNT = Path("/proc/sys/vm/max_map_count")
USUAL_MAP_COUNT = 65_530
IN_MEMORY = 512  # of what is compressed, and so held in memory


class Cache:
    """A sealed teacher cache. Positions run over the index, in corpus order."""

    def __init__(self, path: Path):
        """Raises CacheError: no cache, unknown format, not sealed, an index that does not fit."""
        self.path = path
        self.manifest: CacheManifest = read_manifest(path)
        index = read_index(path, self.manifest)
        self._ids = index.column("sample_id").combine_chunks()
        self.shards: np.ndarray = index.column("shard").to_numpy()  # [samples] int32: where each lies
        self.rows: np.ndarray = index.column("row").to_numpy()  # [samples] int32: and in which row of samples.arrow
        self.tokens: np.ndarray = index.column("tokens").to_numpy()  # [samples] int32
        maps = _most_maps()
        texts = maps // 4 if keeps_tokens(self.manifest.arrays) else IN_MEMORY
        self._record = cache(self._check_shard)
        self.shard = lru_cache(maxsize=texts)(self._open_shard)
        self._mapped = lru_cache(maxsize=maps - maps // 4)(self._open_array)
        self._in_memory = lru_cache(maxsize=IN_MEMORY)(self._open_array)
        self._arrays = {(array.kind, array.layer): array for array in self.manifest.arrays}
        # Found once: to ask the registries at every read would cost as much again as to slice a map.
        self._per_sample = {key for key, array in self._arrays.items() if array.rows == "samples"}
        self._decoded = {key for key, array in self._arrays.items() if not CODECS.find(array.encoding).mapped}

    def __len__(self) -> int:
        return len(self.rows)

    @cached_property
    def positions(self) -> dict[str, int]:
        """Position by sample id; built on first use, one entry a sample."""
        return {name: position for position, name in enumerate(self._ids.to_pylist())}

    def position(self, sample_id: str) -> int:
        """Raises CacheError if there is no such sample."""
        try:
            return self.positions[sample_id]
        except KeyError:
            raise CacheError(f"{self.path} holds no sample {sample_id!r}") from None

    def array(self, kind: str, layer: int) -> ArrayRecord:
        """Raises CacheError that names what the cache does hold."""
        record = self.manifest.array(kind, layer)
        if record is None:
            raise self._lacks(f"{kind}/{layer}", "that layer")
        return record

    def arrays_of(self, kind: str) -> list[ArrayRecord]:
        """The arrays of a state kind: of each of its layers, or its parts. Raises CacheError if there are none."""
        arrays = by_kind(self.manifest.arrays).get(kind)
        if arrays is None:
            raise self._lacks(kind, "it")
        return arrays

    def _lacks(self, wanted: str, way_out: str) -> CacheError:
        held = ", ".join(a.path for a in self.manifest.arrays)
        return CacheError(f"{self.path} holds no {wanted} (it holds {held}); extract with {way_out} in `states`")

    def sample(self, position: int) -> CachedSample:
        """Raises PairingError if index and shard disagree on which sample this is, or on its tokens."""
        shard, row = self.shard(int(self.shards[position])), int(self.rows[position])
        sample = shard.sample(row)
        if sample.id != self._ids[position].as_py() or len(sample.token_ids) != self.tokens[position]:
            raise PairingError(
                f"{shard.path} row {row} holds sample {sample.id!r} of {len(sample.token_ids)} tokens, the index says "
                f"{self._ids[position].as_py()!r} of {self.tokens[position]}; run `stillroom reindex {self.path}`"
            )
        return sample

    def states(self, position: int, arrays: Sequence[ArrayRecord]) -> list[np.ndarray]:
        """This sample's rows of each array, [T] or [T, width] in the stored dtype (bfloat16 as uint16)."""
        unit, row = int(self.shards[position]), int(self.rows[position])
        start, count = self.shard(unit).rows(row)
        found = []
        for array in arrays:
            key = array.kind, array.layer
            values = (self._in_memory if key in self._decoded else self._mapped)(unit, key)
            found.append(values[row : row + 1] if key in self._per_sample else values[start : start + count])
        return found

    def _check_shard(self, unit: int) -> ShardRecord:
        """What stays of a shard's record once it is checked: its names and checksums would be most of it."""
        return check_shard(shard_path(self.path, unit), self.manifest).model_copy(update={"files": {}})

    def _open_shard(self, unit: int) -> Shard:
        return Shard(shard_path(self.path, unit), self._record(unit))

    def _open_array(self, unit: int, key: tuple[str, int]) -> np.ndarray:
        return self.shard(unit).array(self._arrays[key])


def _most_maps() -> int:
    """How many files one cache may have mapped at once."""
    try:
        return int(MAX_MAP_COUNT.read_text()) // 4
    except (OSError, ValueError):  # not Linux, where no such limit is known
        return USUAL_MAP_COUNT // 4
