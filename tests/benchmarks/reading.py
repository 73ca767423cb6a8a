"""Reading random samples of a cache against a plain numpy.memmap of the same numbers: the bound is 0.8.

    python -m tests.benchmarks.reading

Six layers of 768 bfloat16 columns, 361 ragged samples in 4 shards, in random order, 2 of 6 layers and all of them; both
sides copy what they read. `plain` knows every offset beforehand; `one file` has all layers side by side in one array,
the layout that reads best when all of them are wanted.
"""

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from pipeline.sample import AnnotatedSample, Spans
from pipeline.shards import write_index, write_manifest, write_shard
from pipeline.tokens import Counts
from schemas.fingerprint import fingerprint
from schemas.manifest import ArrayRecord, CacheManifest, CorpusRecord, TeacherRecord
from schemas.shard import STATES, shard_path
from schemas.states import map_array
from trainer.cache import Cache

LAYERS, WIDTH, SHARDS, SAMPLES, ROUNDS = 6, 768, 4, 361, 15


def make_cache(folder: Path) -> Cache:
    """A cache of random states whose samples have 16 to 320 tokens."""
    random = np.random.default_rng(0)
    arrays = [ArrayRecord(kind="hidden", layer=layer, width=WIDTH, dtype="bfloat16") for layer in range(1, LAYERS + 1)]
    identity = {"benchmark": "reading"}
    manifest = CacheManifest(
        fingerprint=fingerprint(identity),
        identity=identity,
        teacher=TeacherRecord(
            model="random", kind="encoder", num_layers=LAYERS, hidden_size=WIDTH, vocab_size=1, max_tokens=320
        ),
        annotator="none",
        arrays=arrays,
        corpus=CorpusRecord(samples=SAMPLES, empty=0, sha256=""),
        units=SHARDS,
        provenance={},
    )
    write_manifest(folder, manifest)
    for unit in range(SHARDS):
        samples = [_sample(f"{unit}-{row}", int(random.integers(16, 321))) for row in range(unit, SAMPLES, SHARDS)]
        tokens = sum(len(sample.token_ids) for sample in samples)
        states = {a.path: random.integers(0, 1 << 15, (tokens, WIDTH), dtype=np.uint16) for a in arrays}
        write_shard(folder, unit, samples, states, arrays, manifest.fingerprint, Counts(0, 0))
    write_index(folder, manifest)
    return Cache(folder)


def _sample(name: str, tokens: int) -> AnnotatedSample:
    none = np.empty((0, 2), np.int32)
    offsets = np.stack([np.arange(tokens), np.arange(1, tokens + 1)], 1).astype(np.int32)
    return AnnotatedSample(name, "x" * tokens, 0, False, np.zeros(tokens, np.int32), offsets, Spans(none, none, none))


def compare(cache: Cache, arrays: list[ArrayRecord], folder: Path) -> tuple[float, float, float]:
    """Medians of paired rounds: cache / plain, cache / one file (above 1 is faster), and bytes a second."""
    order = np.random.default_rng(1).permutation(len(cache)).tolist()
    shards = [cache.shard(unit) for unit in range(SHARDS)]
    maps = {
        (unit, a.path): map_array(shard_path(folder, unit) / STATES, a, shards[unit].record.tokens)
        for unit in range(SHARDS)
        for a in arrays
    }
    joined = [
        np.memmap(_join(folder, unit, [maps[unit, a.path] for a in arrays]), np.uint16, "r").reshape(
            -1, len(arrays), WIDTH
        )
        for unit in range(SHARDS)
    ]
    places = [(int(cache._shard[p]), *shards[int(cache._shard[p])].rows(int(cache._row[p]))) for p in range(len(cache))]

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

    seconds = [[_time(read) for read in (through_cache, plain, one_file)] for _ in range(ROUNDS + 1)][1:]
    size = int(cache.tokens.sum()) * WIDTH * 2 * len(arrays)
    return (
        statistics.median(row[1] / row[0] for row in seconds),
        statistics.median(row[2] / row[0] for row in seconds),
        size / statistics.median(row[0] for row in seconds),
    )


def _join(folder: Path, unit: int, columns: list[np.ndarray]) -> Path:
    path = folder / f"joined-{len(columns)}-{unit}.bin"
    np.stack(columns, 1).tofile(path)
    return path


def _time(read: Callable[[], None]) -> float:
    started = time.perf_counter()
    read()
    return time.perf_counter() - started


def main() -> None:
    table = Table("layers read", "cache / plain memmap", "cache / one file", "GB/s", title="reading random samples")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cache = make_cache(folder)
        for count in (2, LAYERS):
            against_plain, against_one, rate = compare(cache, cache.manifest.arrays[:count], folder)
            table.add_row(f"{count} of {LAYERS}", f"{against_plain:.2f}", f"{against_one:.2f}", f"{rate / 1e9:.1f}")
    Console().print(table)


if __name__ == "__main__":
    main()
