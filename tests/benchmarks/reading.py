"""Reading random samples of a cache against a plain numpy.memmap of the same numbers: the bound is 0.95.

    python -m tests.benchmarks.reading

Six layers of 768 bfloat16 columns, 361 ragged samples in 4 shards, in random order, 2 of 6 layers and all of them; both
sides copy what they read. `plain` knows every offset beforehand; `one file` has all layers side by side in one array,
the layout that reads best when all of them are wanted. Then two layers of 2,000 samples in as many shards, which all
have to stay open: to open one takes longer than to read it. What opening and checking a shard costs when it is first
touched is stated beside it, in seconds per GB of states; `tests.benchmarks.checking` says what checking alone costs.
Needs 1.1 GB of disk, and a minute to write it.
"""

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from schemas.cache.arrays import ArrayRecord
from schemas.cache.index import write_index
from schemas.cache.manifest import FORMAT, VERSION, CacheManifest, CorpusRecord
from schemas.cache.reader import Cache
from schemas.cache.samples import CachedSample
from schemas.cache.shard import STATES, shard_path
from schemas.cache.states import map_array
from schemas.cache.targets import response_targets
from schemas.cache.teacher import TeacherRecord
from schemas.cache.token_rows import every_row
from schemas.cache.writer import write_manifest, write_shard
from schemas.storage.fingerprint import fingerprint

LAYERS, WIDTH, ROUNDS = 6, 768, 15
FEW, MANY = (4, 361), (2000, 2000)  # shards, samples


def make_manifest(shards: int, samples: int, layers: int) -> CacheManifest:
    """Of a cache of hidden states alone, whose samples have 16 to 320 tokens."""
    arrays = [ArrayRecord(kind="hidden", layer=layer, width=WIDTH, dtype="bfloat16") for layer in range(1, layers + 1)]
    identity = {
        "format": f"{FORMAT} {VERSION}",
        "teacher": {"kind": "encoder", "max_tokens": 320},
        "states": {a.path: {"width": a.width, "dtype": a.dtype, "encoding": a.encoding} for a in arrays},
        "corpus": {"sha256": "", "samples": samples},
        "annotator": "none",
    }
    return CacheManifest(
        fingerprint=fingerprint(identity),
        identity=identity,
        teacher=TeacherRecord(
            model="random", kind="encoder", num_layers=LAYERS, hidden_size=WIDTH, vocab_size=1, max_tokens=320
        ),
        annotator="none",
        arrays=arrays,
        corpus=CorpusRecord(samples=samples, empty=0, sha256=""),
        units=shards,
        provenance={},
    )


def make_cache(folder: Path, shards: int, samples: int, layers: int) -> Cache:
    """A cache of random states, which are finite."""
    random, manifest = np.random.default_rng(0), make_manifest(shards, samples, layers)
    write_manifest(folder, manifest)
    for unit in range(shards):
        held = [_sample(f"{unit}-{row}", int(random.integers(16, 321))) for row in range(unit, samples, shards)]
        tokens = sum(len(sample.token_ids) for sample in held)
        states = {a.path: random.integers(0, 0x7F80, (tokens, WIDTH), dtype=np.uint16) for a in manifest.arrays}
        write_shard(folder, unit, held, states, manifest.arrays, manifest.fingerprint, 0)
    write_index(folder, manifest)
    return Cache(folder)


def _sample(name: str, tokens: int) -> CachedSample:
    none = np.empty((0, 2), np.int32)
    offsets = np.stack([np.arange(tokens), np.arange(1, tokens + 1)], 1).astype(np.int32)
    ids, learnt, rows = np.zeros(tokens, np.int32), response_targets(0, tokens), every_row(tokens)
    return CachedSample(name, "x" * tokens, learnt, False, ids, offsets, rows, none, none, none)


def first_touch(folder: Path, arrays: list[ArrayRecord]) -> tuple[float, float]:
    """Seconds of the first round in random order beyond a warm one, and the same per GB of what was touched."""
    cache = Cache(folder)
    order = np.random.default_rng(1).permutation(len(cache)).tolist()

    def read() -> None:
        for position in order:
            for values in cache.states(position, arrays):
                values.copy()

    cost = _time(read) - min(_time(read) for _ in range(3))
    return cost, cost / (int(cache.tokens.sum()) * WIDTH * 2 * len(arrays) / 1e9)


def compare(cache: Cache, arrays: list[ArrayRecord]) -> tuple[float, float | None, float]:
    """Medians of paired rounds: cache / plain, cache / one file (above 1 is faster), and bytes per second.

    None for one file if there are many shards: np.memmap keeps each file open, and a process may not open that many.
    """
    order = np.random.default_rng(1).permutation(len(cache)).tolist()
    units = range(cache.manifest.units)
    shards = [cache.shard(unit) for unit in units]
    maps = {
        (unit, a.path): map_array(shard_path(cache.path, unit) / STATES, a, shards[unit].record.tokens)
        for unit in units
        for a in arrays
    }
    found = zip(cache.shards.tolist(), cache.rows.tolist(), strict=True)
    places = [(unit, *shards[unit].rows(row)) for unit, row in found]

    def through_cache() -> None:
        for position in order:
            for values in cache.states(position, arrays):
                values.copy()

    def plain() -> None:
        for position in order:
            unit, start, count = places[position]
            for array in arrays:
                maps[unit, array.path][start : start + count].copy()

    def one_file() -> None:
        for position in order:
            unit, start, count = places[position]
            joined[unit][start : start + count].copy()

    sides = [through_cache, plain]
    if len(units) == FEW[0]:
        columns = [[maps[unit, a.path] for a in arrays] for unit in units]
        joined = [
            np.memmap(_join(cache.path, unit, columns[unit]), np.uint16, "r").reshape(-1, len(arrays), WIDTH)
            for unit in units
        ]
        sides.append(one_file)
    seconds = [[_time(read) for read in sides] for _ in range(ROUNDS + 1)][1:]
    size = int(cache.tokens.sum()) * WIDTH * 2 * len(arrays)
    ratios = [statistics.median(row[side] / row[0] for row in seconds) for side in range(1, len(sides))]
    rate = size / statistics.median(row[0] for row in seconds)
    return ratios[0], ratios[1] if len(ratios) > 1 else None, rate


def _join(folder: Path, unit: int, columns: list[np.ndarray]) -> Path:
    path = folder / f"joined-{len(columns)}-{unit}.bin"
    np.stack(columns, 1).tofile(path)
    return path


def _time(read: Callable[[], None]) -> float:
    started = time.perf_counter()
    read()
    return time.perf_counter() - started


def main() -> None:
    columns = ("cache", "cache / plain memmap", "cache / one file", "GB/s", "check at first touch")
    table = Table(*columns, title="reading random samples")
    for (shards, samples), layers, wanted in ((FEW, LAYERS, (2, LAYERS)), (MANY, 2, (2,))):
        with tempfile.TemporaryDirectory() as name:
            cache = make_cache(Path(name), shards, samples, layers)
            for count in wanted:
                seconds, per_gb = first_touch(Path(name), cache.manifest.arrays[:count])
                against_plain, against_one, rate = compare(cache, cache.manifest.arrays[:count])
                one = "" if against_one is None else f"{against_one:.2f}"
                what = f"{count} of {layers} layers, {samples:,} samples in {shards:,} shards"
                table.add_row(
                    what, f"{against_plain:.2f}", one, f"{rate / 1e9:.1f}", f"{seconds:.2f} s, {per_gb:.1f} s/GB"
                )
    Console().print(table)


if __name__ == "__main__":
    main()
