"""Opening a cache of 10,000 shards and a million samples: seconds, and memory beyond that of the imports.

    python -m tests.benchmarks.opening [SHARDS] [SAMPLES]

Opening reads the manifest, the checksums, the index and the small files of teacher/. These are written as the library
writes them, of records and rows that are made up: states would take a day to write, and opening does not touch them.
Each opening is of a process of its own, after one that leaves the files in memory. The bounds are 1 s and 200 MB.
"""

import hashlib
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
from rich.console import Console
from rich.table import Table

from schemas.cache.checksums import write_checksums
from schemas.cache.index import write_rows
from schemas.cache.manifest import INDEX, TEACHER
from schemas.cache.samples import INDEX_SCHEMA
from schemas.cache.seen_shard import SeenShard
from schemas.cache.shard import ShardRecord
from schemas.cache.teacher_files import TEACHER_FILES
from schemas.cache.writer import write_manifest
from tests.benchmarks.reading import make_manifest

TRIES = 5
BLOCKS = 60  # of a shard: six layers of 24,000 tokens, 768 wide, in bfloat16
OPEN = """
import json, resource, sys, time
from pathlib import Path
from schemas.cache.reader import Cache

def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()

before, started = resident(), time.perf_counter()
cache = Cache(Path(sys.argv[1]))
seconds = time.perf_counter() - started
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
print(json.dumps([len(cache), seconds, resident() - before, peak - before]))
"""


def make_cache(folder: Path, shards: int, samples: int) -> None:
    """What opening reads of a cache, and no shard."""
    write_manifest(folder, make_manifest(shards, samples, layers=6))
    (folder / TEACHER).mkdir()
    (folder / TEACHER / "config.json").write_text("{}")
    TEACHER_FILES.write_record(folder / TEACHER)
    write_rows(folder / INDEX, _rows(shards, samples))
    record = ShardRecord(fingerprint="0", unit=0, samples=0, tokens=0, truncated=0, overlong=0, files={})
    sums = [hashlib.sha256(str(unit).encode()).hexdigest() for unit in range(shards)]
    write_checksums(folder, folder / INDEX, [[SeenShard(record, sha256, 0, BLOCKS, None) for sha256 in sums]])


def _rows(shards: int, samples: int) -> Iterator[pa.RecordBatch]:
    random = np.random.default_rng(0)
    for unit in range(shards):
        count = samples // shards + (unit < samples % shards)
        ids = [hashlib.sha256(f"{unit} {row}".encode()).hexdigest()[:16] for row in range(count)]
        columns = [
            pa.array(ids, pa.string()),
            pa.array(np.full(count, unit, np.int32)),
            pa.array(np.arange(count, dtype=np.int32)),
            pa.array(random.integers(16, 1000, count, np.int32)),
        ]
        yield pa.record_batch(columns, schema=INDEX_SCHEMA)


def measure(folder: Path) -> tuple[float, float, float]:
    """Medians over fresh processes: seconds, and bytes more than before it was opened, afterwards and at most."""
    found = []
    for _ in range(TRIES + 1):
        done = subprocess.run([sys.executable, "-c", OPEN, str(folder)], capture_output=True, text=True, check=True)
        found.append(json.loads(done.stdout)[1:])
    seconds, after, peak = (statistics.median(column) for column in zip(*found[1:], strict=True))
    return seconds, after, peak


def main() -> None:
    """Print the table."""
    shards, samples = (int(text) for text in (sys.argv[1:] or ["10000", "1000000"]))
    table = Table("shards", "samples", "seconds", "MB kept", "MB at most", title="opening a cache")
    with tempfile.TemporaryDirectory() as name:
        make_cache(Path(name), shards, samples)
        seconds, after, peak = measure(Path(name))
        table.add_row(f"{shards:,}", f"{samples:,}", f"{seconds:.2f}", f"{after / 1e6:.0f}", f"{peak / 1e6:.0f}")
    Console().print(table)


if __name__ == "__main__":
    main()
