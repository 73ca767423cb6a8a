"""Hostile caches, runs and kept tokens: files that another machine has sent."""

import json
import os
import pickle
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from tests.caches import as_recorded
from tests.jobs.hostile_inputs.world import Input, edit, link, pipe, put, remove, sparse

TRAIN, INSPECT, VERIFY, REPAIR = ("train", "train.yaml"), ("inspect", "cache"), ("verify", "cache"), ("repair", "cache")
REINDEX, DIFF = ("reindex", "cache"), ("diff", "cache", "grown")
KEPT = ("train", "kept.yaml")
EXTRACT = ("extract", "extract.yaml", "--set", "output=cache")
SHARD = "cache/shards/00000"


class Evil:
    def __reduce__(self) -> Any:
        return os.system, ("touch pwned",)


PICKLE = pickle.dumps(Evil())


def recorded(name: str, content: bytes | str) -> None:
    """Another file in a shard, with the checksums of what it is."""
    put(f"{SHARD}/{name}", content)
    as_recorded(Path(SHARD), name)


def named(name: str) -> Path:
    """A shard that says it has a file of that name."""
    record = json.loads(Path(f"{SHARD}/shard.json").read_text())
    record["files"][name] = next(iter(record["files"].values()))
    put(f"{SHARD}/shard.json", json.dumps(record))
    return remove("cache/checksums.json")


def kept(change: Any) -> None:
    """Each of the files of kept tokens."""
    for path in list(Path("tokens").rglob("*.arrow")):
        change(str(path))


def unfinished(change: Any) -> None:
    """A cache that is to be gone on with, and something else in the place of its log."""
    remove("cache/index.parquet")
    change("cache/extraction.jsonl")


def unsealed(change: Any) -> None:
    change()
    remove("cache/checksums.json")


def evil_samples(column: str, value: Any) -> None:
    """samples.arrow with another value in its first row, as its record has it."""
    path = Path(SHARD, "samples.arrow")
    table = pa.ipc.open_file(path.read_bytes()).read_all()
    values = table.column(column).to_pylist()
    values[0] = value
    table = table.set_column(
        table.schema.get_field_index(column),
        table.schema.field(column),
        pa.array(values, table.schema.field(column).type),
    )
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema) as out:
        out.write_batch(table.combine_chunks().to_batches()[0])
    recorded("samples.arrow", sink.getvalue().to_pybytes())


def beyond_the_vocabulary() -> None:
    """Of as many tokens as there were."""
    table = pa.ipc.open_file(Path(SHARD, "samples.arrow").read_bytes()).read_all()
    evil_samples("token_ids", [2**31 - 1] * len(table.column("token_ids")[0]))


def absurd_header(name: str) -> Path:
    """Safetensors whose header says that it has 2^63 - 1 bytes."""
    return put(name, (2**63 - 1).to_bytes(8, "little") + b"{}")


ADDED_SHARD = "grown/added/1/shards/00000"

INPUTS: dict[str, Input] = {
    "a manifest of 4 TB": Input(
        partial(sparse, "cache/cache.json"), INSPECT, "cannot read cache/cache.json: it is larger than"
    ),
    "a manifest nested without end": Input(
        partial(put, "cache/cache.json", '{"a":' * 100_000),
        INSPECT,
        "cache/cache.json is damaged: it is nested too deeply",
    ),
    "/dev/zero as a manifest": Input(
        partial(link, "cache/cache.json"), VERIFY, "cannot read cache/cache.json: it is a device"
    ),
    "a pipe as a manifest": Input(
        partial(pipe, "cache/cache.json"), REPAIR, "cannot read cache/cache.json: it is a pipe"
    ),
    "a manifest of 2^60 units": Input(
        lambda: unsealed(partial(edit, "cache/cache.json", units=1 << 60)), VERIFY, "cache/cache.json is damaged: units"
    ),
    "a manifest of -1 units": Input(
        partial(edit, "cache/cache.json", units=-1), INSPECT, "cache/cache.json is damaged: units"
    ),
    "a manifest whose layers climb out": Input(
        lambda: unsealed(
            partial(
                edit,
                "cache/cache.json",
                arrays=[{"kind": "../../../etc", "layer": 1, "width": 1, "dtype": "float32", "encoding": "raw"}],
            )
        ),
        VERIFY,
        "unknown state kind '..'",
    ),
    "a manifest with a pickle for an encoding": Input(
        lambda: unsealed(
            partial(
                edit,
                "cache/cache.json",
                arrays=[{"kind": "hidden", "layer": 2, "width": 16, "dtype": "float32", "encoding": "pickle"}],
            )
        ),
        VERIFY,
        "unknown codec 'pickle'",
    ),
    "a pickle as a manifest": Input(
        partial(put, "cache/cache.json", PICKLE), INSPECT, "cache/cache.json is damaged: not JSON"
    ),
    "a pickle as checksums": Input(
        partial(put, "cache/checksums.json", PICKLE), VERIFY, "cache/checksums.json is damaged: not JSON"
    ),
    "checksums of 100,000 shards": Input(
        partial(edit, "cache/checksums.json", shards=["0" * 64] * 100_000),
        VERIFY,
        "cache/checksums.json knows 100000 shards",
    ),
    "checksums of nothing": Input(
        partial(edit, "cache/checksums.json", shards=[]), TRAIN, "cache/checksums.json knows 0 shards"
    ),
    "totals that are absurd": Input(
        lambda: edit("cache/checksums.json", totals__bytes=1 << 62, totals__samples=-5),
        VERIFY,
        "cache/checksums.json is damaged: totals.samples",
    ),
    "a pipe as checksums": Input(
        partial(pipe, "cache/checksums.json"), TRAIN, "cannot read cache/checksums.json: it is a pipe"
    ),
    "a shard's record that climbs out": Input(
        partial(named, "../../../../etc/passwd"), VERIFY, "etc/passwd is missing"
    ),
    "a shard's record at the root": Input(partial(named, "/etc/passwd"), REPAIR, "1 of 2 shards were dropped", 0),
    "a shard's record with a NUL": Input(partial(named, "a\0b"), VERIFY, "cache/shards/00000/a\\x00b is missing"),
    "a shard's record of /dev/zero": Input(
        lambda: (named("zero"), link(f"{SHARD}/zero")), VERIFY, "cache/shards/00000/zero is missing"
    ),
    "a shard of 2^62 tokens": Input(
        lambda: unsealed(partial(edit, f"{SHARD}/shard.json", tokens=1 << 62)),
        TRAIN,
        "727 of 4611686018427387904 tokens have rows",
    ),
    "a shard that is another": Input(
        lambda: (remove("cache/shards/00001"), link("cache/shards/00001", "00000")),
        VERIFY,
        "cache/shards/00001/shard.json does not have its checksum",
    ),
    "a shard linked to the root": Input(
        lambda: (remove("cache/shards/00001"), link("cache/shards/00001", "/")),
        REPAIR,
        "dropped: there is no complete shard at cache/shards/00001",
        code=0,
    ),
    "a shard linked to nothing": Input(
        lambda: (remove("cache/shards/00001"), link("cache/shards/00001", "/mnt/a disk/00001")),
        REPAIR,
        "cache/shards/00001 is a link to /mnt/a disk/00001, which is not there",
    ),
    "samples that are a pickle": Input(
        lambda: unsealed(partial(recorded, "samples.arrow", PICKLE)),
        REINDEX,
        "cannot read cache/shards/00000/samples.arrow",
    ),
    "samples of 2^62 bytes": Input(
        lambda: unsealed(
            partial(
                recorded,
                "samples.arrow",
                b"ARROW1\0\0" + b"\xff" * 4 + (1 << 30).to_bytes(4, "little") + b"\0" * 64 + b"ARROW1",
            )
        ),
        VERIFY,
        "cannot read cache/shards/00000/samples.arrow",
    ),
    "samples that are /dev/zero": Input(
        partial(link, f"{SHARD}/samples.arrow"), TRAIN, "cache/shards/00000/samples.arrow is missing"
    ),
    "a sample that climbs out": Input(
        lambda: unsealed(partial(evil_samples, "sample_id", "../" * 40 + "etc/passwd")), REINDEX, "index of", 0
    ),
    "tokens beyond the vocabulary": Input(lambda: unsealed(beyond_the_vocabulary), VERIFY, "a token of it is none of"),
    "offsets beyond the text": Input(
        lambda: unsealed(partial(evil_samples, "words", [[2**31 - 2, 2**31 - 1]])), VERIFY, "its words leave its text"
    ),
    "rows before the first": Input(
        lambda: unsealed(partial(evil_samples, "row_start", -(1 << 62))),
        VERIFY,
        "its rows do not follow those of the sample before it",
    ),
    "Zarr of 2^40 rows": Input(
        lambda: unsealed(
            partial(
                recorded,
                "states.zarr/hidden/2/zarr.json",
                '{"zarr_format": 3, "node_type": "array", "shape": [1099511627776, 16], "data_type": "float32"}',
            )
        ),
        VERIFY,
        "zarr.json says shape [1099511627776, 16], and it is",
    ),
    "Zarr with a codec of its own": Input(
        lambda: unsealed(
            partial(
                recorded,
                "states.zarr/hidden/2/zarr.json",
                '{"zarr_format": 3, "node_type": "array", "codecs": [{"name": "pickle"}]}',
            )
        ),
        VERIFY,
        "zarr.json says shape None",
    ),
    "numbers that are a pipe": Input(
        lambda: (remove(f"{SHARD}/states.zarr/hidden/2/c/0/0"), pipe(f"{SHARD}/states.zarr/hidden/2/c/0/0")),
        TRAIN,
        "hidden/2/c/0/0 is missing",
    ),
    "numbers of 4 TB": Input(
        partial(sparse, f"{SHARD}/states.zarr/hidden/2/c/0/0"),
        VERIFY,
        "hidden/2/c/0/0 has 4398046511104 bytes instead of",
    ),
    "numbers that are all NaN": Input(
        lambda: unsealed(
            partial(
                recorded,
                "states.zarr/hidden/2/c/0/0",
                b"\xff" * Path(f"{SHARD}/states.zarr/hidden/2/c/0/0").stat().st_size,
            )
        ),
        VERIFY,
        "hidden/2 row 0 is not finite",
    ),
    "an index that is a pickle": Input(partial(put, "cache/index.parquet", PICKLE), TRAIN, "cache/index.parquet has"),
    "an index that is a pipe": Input(partial(pipe, "cache/index.parquet"), INSPECT, "cache/index.parquet is missing"),
    "codecs of 2^63 bytes": Input(
        lambda: (
            absurd_header("grown/codecs/hidden-1.safetensors"),
            remove("grown/checksums.json"),
            remove("grown/codecs/files.json"),
        ),
        ("verify", "grown"),
        "was encoded by other tables than grown/codecs holds",
    ),
    "a pickle as codecs": Input(
        partial(put, "grown/codecs/hidden-1.safetensors", PICKLE),
        ("train", "grown.yaml"),
        "grown/codecs/hidden-1.safetensors has",
    ),
    "codecs that name what climbs out": Input(
        partial(edit, "grown/codecs/files.json", files={"../../../etc/passwd": {"bytes": 1, "sha256": "0"}}),
        ("train", "grown.yaml"),
        "grown/codecs/files.json has",
    ),
    "added arrays that are not there": Input(
        partial(remove, "grown/added/1"), ("verify", "grown"), "grown/added/1/codecs/files.json is missing"
    ),
    "added arrays linked to the root": Input(
        lambda: (remove("grown/added/1"), link("grown/added/1", "/")),
        ("inspect", "grown"),
        "grown/added/1/codecs/files.json is missing",
    ),
    "added arrays of other texts": Input(
        lambda: (edit(f"{ADDED_SHARD}/shard.json", texts="0" * 64), remove("grown/checksums.json")),
        ("verify", "grown"),
        "grown/added/1/shards/00000/shard.json is of other samples",
    ),
    "a pipe among added arrays": Input(
        partial(pipe, f"{ADDED_SHARD}/shard.json"),
        ("train", "grown.yaml"),
        "cannot read grown/added/1/shards/00000/shard.json: it is a pipe",
    ),
    "teacher/ with code of its own": Input(
        lambda: put("cache/teacher/modeling_evil.py", "open('pwned', 'w')"),
        TRAIN,
        "does not name modeling_evil.py, which was added to the folder",
    ),
    "teacher/ that names what climbs out": Input(
        lambda: (
            edit("cache/teacher/files.json", files={"../../../../etc/passwd": {"bytes": 1, "sha256": "0"}}),
            remove("cache/checksums.json"),
        ),
        VERIFY,
        "cache/teacher/files.json does not name config.json",
    ),
    "a pickle as an unembedding": Input(
        partial(put, "cache/teacher/unembedding.safetensors", PICKLE),
        VERIFY,
        "cache/teacher/unembedding.safetensors has",
    ),
    "a lock that is a pipe": Input(
        partial(pipe, "cache/.writer"), REINDEX, "the lock cache/.writer cannot be read (it is a pipe"
    ),
    "a lock that is a pickle": Input(
        partial(put, "cache/.writer", PICKLE), REINDEX, "another extraction is writing to cache: an unknown process"
    ),
    "a lock that links out": Input(
        partial(link, "cache/.writer", "../../outside"), REINDEX, "the lock cache/.writer is a link to nothing"
    ),
    "a log that is a pipe": Input(partial(unfinished, pipe), EXTRACT, "extraction.jsonl: a regular file is wanted"),
    "a log that links out": Input(
        partial(unfinished, partial(link, target="../outside")), EXTRACT, "extraction.jsonl: a regular file is wanted"
    ),
    "a diff with a pipe": Input(partial(pipe, "grown/cache.json"), DIFF, "cannot read grown/cache.json: it is a pipe"),
    "a run's record of /dev/zero": Input(
        partial(link, "run/run.json"), ("compare", "run"), "cannot read run/run.json: it is a device"
    ),
    "a run's figures that are a pipe": Input(
        partial(pipe, "run/metrics.jsonl"), ("compare", "run"), "cannot read run/metrics.jsonl: it is a pipe"
    ),
    "a run with a pickle for a model": Input(
        lambda: (remove("run/model/model.safetensors"), put("run/model/pytorch_model.bin", PICKLE)),
        ("evaluate", "run", "--text", "held.jsonl"),
        "run/model/model.safetensors is missing",
    ),
    "kept tokens that are a pickle": Input(partial(kept, partial(put, content=PICKLE)), KEPT, "is damaged", 0),
    "kept tokens that are a pipe": Input(partial(kept, pipe), KEPT, "it is a pipe", 0),
    "kept tokens that are /dev/zero": Input(partial(kept, link), KEPT, "it is a device", 0),
    "kept tokens of 4 TB": Input(partial(kept, sparse), KEPT, "is larger than the 1,073,741,824 bytes", 0),
}
