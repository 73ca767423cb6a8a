"""Verifying a cache on one core and on two: the bound is 1.7 times as fast. Needs a machine that does nothing else.

    python -m tests.benchmarks.verifying

16 shards of 60 MB, in memory after a first round; rounds alternate, and the medians are compared.
"""

import statistics
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from schemas.cache.checksums import open_manifest
from schemas.cache.verify import ProvenShard, verify_shards
from tests.benchmarks.reading import make_cache

SHARDS, SAMPLES, LAYERS, ROUNDS = 16, 960, 4, 7


def seconds(folder: Path, threads: int) -> float:
    """Of verifying every shard, each of which is sound."""
    manifest, sealed = open_manifest(folder)
    started = time.perf_counter()
    assert all(isinstance(shard, ProvenShard) for shard in verify_shards(folder, manifest, sealed, threads))
    return time.perf_counter() - started


def main() -> None:
    """Print the table."""
    table = Table("threads", "seconds", "GB/s", "times as fast", title="verifying")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_cache(folder, SHARDS, SAMPLES, LAYERS)
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        rounds = [[seconds(folder, threads) for threads in (1, 2)] for _ in range(ROUNDS + 1)][1:]
    one, two = (statistics.median(column) for column in zip(*rounds, strict=True))
    for threads, took in ((1, one), (2, two)):
        table.add_row(str(threads), f"{took:.2f}", f"{size / took / 1e9:.1f}", f"{one / took:.2f}")
    Console().print(table)


if __name__ == "__main__":
    main()
