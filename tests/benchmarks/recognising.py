"""How long it takes to see that a cache under a URL is finished, and to look at each of its shards, as `plan`, `repair`
and an extraction do that goes on: 10,000 units on S3, 20 ms for each request.

    python -m tests.benchmarks.recognising [UNITS] [MILLISECONDS]

The server is moto's, in this process, but for listings: moto goes through all of a bucket for each page of a thousand
names, where S3 does not. These are answered from a sorted list, as XML that S3 would send, and every shard.json is the
same bytes.
"""

import hashlib
import sys
import tempfile
import time
from bisect import bisect_left
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import pytest

from pipeline.output.elsewhere import find_published, seen_from_outside, working_folder
from schemas.cache.arrays import ArrayRecord
from schemas.cache.checksums import write_checksums
from schemas.cache.folders import SHARDS
from schemas.cache.index import write_rows
from schemas.cache.manifest import INDEX, TEACHER, CacheManifest
from schemas.cache.seen_shard import SeenShard
from schemas.cache.shard import RECORD, SAMPLES, STATES, ShardRecord, shard_path
from schemas.cache.states import array_files
from schemas.cache.teacher_files import TEACHER_FILES
from schemas.cache.writer import write_manifest
from schemas.storage.remote import locate_anywhere
from tests.benchmarks.reading import make_manifest
from tests.buckets import Bucket, Server, made_known

FILE_BYTES = 7
PAGE = 1_000
ENTRY = (
    "<Contents><Key>{}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified><ETag>&quot;0123456789abcdef0123456789"
    "abcdef&quot;</ETag><Size>{}</Size><StorageClass>STANDARD</StorageClass></Contents>"
)


class Listings:
    """Pages of the names of a bucket; all else is for the application behind."""

    def __init__(self, application: Any, sizes: dict[str, int]):
        self._application, self._sizes, self._names = application, sizes, sorted(sizes)

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        if environ["PATH_INFO"].endswith(f"/{RECORD}"):
            start_response("206 Partial Content", [("Content-Length", str(FILE_BYTES))])
            return [bytes(FILE_BYTES)]
        asked = dict(parse_qsl(environ["QUERY_STRING"]))
        if asked.get("list-type") != "2":
            return self._application(environ, start_response)
        first = bisect_left(self._names, asked["prefix"])
        if "continuation-token" in asked:
            first = int(asked["continuation-token"])
        some = self._names[first : first + PAGE]
        rest = first + PAGE < len(self._names)
        more = f"<NextContinuationToken>{first + PAGE}</NextContinuationToken>" if rest else ""
        start_response("200 OK", [("Content-Type", "application/xml")])
        entries = "".join(ENTRY.format(name, self._sizes[name]) for name in some)
        return [f"<ListBucketResult><IsTruncated>{str(rest).lower()}</IsTruncated>{more}{entries}</ListBucketResult>"
                .encode()]  # fmt: skip


def fill(bucket: Bucket, folder: Path, units: int) -> CacheManifest:
    """Put the small files of a cache, and let its shards be listed."""
    manifest = make_manifest(units, units, layers=3)
    write_manifest(folder, manifest)
    (folder / TEACHER).mkdir()
    TEACHER_FILES.write_record(folder / TEACHER)
    write_rows(folder / INDEX, [])
    names = [SAMPLES, *(f"{STATES}/{file}" for array in manifest.arrays for file in files_of(array))]
    record = ShardRecord(fingerprint="0", unit=0, samples=1, tokens=0, truncated=0, overlong=0, files={})
    sums = [hashlib.sha256(str(unit).encode()).hexdigest() for unit in range(units)]
    size = FILE_BYTES * len(names)
    write_checksums(folder, folder / INDEX, [[SeenShard(record, sha256, size, 1, None) for sha256 in sums]])
    bucket.upload(folder, "cache")
    sizes = {key: len(bucket.get(key)) for key in bucket.keys("cache/")}
    for unit in range(units):
        below = shard_path(Path("cache"), unit).as_posix()
        sizes |= {f"{below}/{name}": FILE_BYTES for name in (*names, RECORD)}
    bucket.door._application = Listings(bucket.door._application, sizes)
    print(f"{len(sizes):,} objects")
    return manifest


def files_of(array: ArrayRecord) -> list[str]:
    """The names of an array's files."""
    return [f"{array.path}/zarr.json", *array_files(array)]


def main(units: int = 10_000, milliseconds: int = 20) -> None:
    """Print seconds and requests of both."""
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        made_known(patch, Path(folder, "home"))
        Path(folder, "cache").mkdir()
        bucket = Server.only().bucket()
        manifest = fill(bucket, Path(folder, "cache"), units)
        output = locate_anywhere(f"{bucket.url}/cache")
        cache = working_folder(output)
        with bucket.trouble(seconds=milliseconds / 1000):
            with timed(bucket, f"{units:,} units recognised"):
                found = find_published(cache, manifest)
            assert found is not None and found.units == units
            with timed(bucket, "and looked at, shard by shard"), seen_from_outside(output) as seen:
                assert len(list((seen / SHARDS).iterdir())) == units


@contextmanager
def timed(bucket: Bucket, what: str) -> Iterator[None]:
    """Print what is done inside, the seconds that it takes, and its requests."""
    before, cpu, started = bucket.door.asked.total(), time.process_time(), time.monotonic()
    yield
    seconds, cpu = time.monotonic() - started, time.process_time() - cpu
    requests = bucket.door.asked.total() - before
    print(f"{what}: {seconds:.1f} s, {requests} requests, {cpu:.1f} s of CPU, the server's included")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
