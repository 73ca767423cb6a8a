"""A segment: some texts in the student's tokens, as one Arrow IPC file that never changes.

Its name is the XXH3-128 of its bytes, so that a damaged one contradicts its name, and the same texts written twice are
one file. One uncompressed record batch, which is mapped and not copied; any reader of Arrow opens it.
"""

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import xxhash

from schemas.cache.list_columns import ListColumn, make_lists
from schemas.cache.samples import Offsets
from schemas.cache.token_rows import runs
from schemas.errors import CacheError
from schemas.storage.atomic import file_beside
from schemas.storage.regular import require_regular
from trainer.alignment.student_text import StudentText
from trainer.kept_texts.identity import Digest

SUFFIX = ".arrow"
KEY = b"stillroom-student-texts"  # of the schema's metadata: the fingerprint of what they follow from
SCHEMA = pa.schema(
    [
        pa.field("high", pa.uint64(), nullable=False),  # the digest of the sample, in two halves
        pa.field("low", pa.uint64(), nullable=False),
        pa.field("ids", pa.list_(pa.int32()), nullable=False),
        pa.field("offsets", Offsets, nullable=False),  # characters of the cached text
        pa.field("targets", Offsets, nullable=False),  # [start, end) of tokens in a row that are targets
        pa.field("length", pa.int32(), nullable=False),
        pa.field("cut", pa.bool_(), nullable=False),
        pa.field("own_template", pa.bool_(), nullable=False),
        pa.field("same", Offsets, nullable=False),  # as `targets`; of a conversation in a template of its own
    ]
)
LISTS = ("ids", "offsets", "targets", "same")
MOST_BYTES = 1 << 30  # hashed before anything of it is read
TOKEN_BYTES, TEXT_BYTES = 12, 64  # about what is written per token, and per text besides

Texts = Mapping[Digest, StudentText]


class DamagedSegment(CacheError):
    """It is not what its name says."""


def write_segment(folder: Path, fingerprint: str, texts: Texts) -> Path:
    """Write `texts` into `folder`, whole or not at all. Raises OSError."""
    content = _serialise(fingerprint, texts)
    path = folder / f"{xxhash.xxh3_128_hexdigest(content)}{SUFFIX}"
    with file_beside(path) as beside:
        beside.write_bytes(content)
    return path


def bytes_of(text: StudentText) -> int:
    """About what it takes in a segment."""
    return TEXT_BYTES + TOKEN_BYTES * len(text.ids)


class Segment:
    """A segment that was checked from its first byte to its last, and is mapped."""

    def __init__(self, path: Path, fingerprint: str):
        """Raises DamagedSegment, or CacheError: it cannot be read, or holds something else."""
        self.path = path
        table = _read(path, fingerprint)
        columns = {name: table.column(name).chunk(0) for name in table.column_names}  # combining would copy the map
        self.keys: np.ndarray = columns["low"].to_numpy()  # [N] uint64
        self._high = columns["high"].to_numpy()
        self._lists = {name: ListColumn(columns[name]) for name in LISTS}
        self._length = columns["length"].to_numpy()
        self._cut, self._own = (columns[name].to_numpy(zero_copy_only=False) for name in ("cut", "own_template"))
        if not np.array_equal(self._lists["ids"].counts, self._lists["offsets"].counts):
            raise CacheError(f"{path} has texts whose tokens and offsets are not as many")

    def text(self, row: int, high: int) -> StudentText | None:
        """The text of a row; None if its digest has another high half."""
        if int(self._high[row]) != high:
            return None
        ids = self._lists["ids"][row].astype(np.int64)
        return StudentText(
            ids=ids,
            offsets=self._lists["offsets"][row],
            target=_marked(self._lists["targets"][row], len(ids)),
            length=int(self._length[row]),
            cut=bool(self._cut[row]),
            same=_marked(self._lists["same"][row], len(ids)) if self._own[row] else None,
        )


def _serialise(fingerprint: str, texts: Texts) -> pa.Buffer:
    found = list(texts.values())
    high, low = np.array(list(texts), np.uint64).reshape(-1, 2).T
    nothing = np.zeros(0, bool)
    columns = [
        pa.array(high),
        pa.array(low),
        make_lists([text.ids for text in found], pa.list_(pa.int32())),
        make_lists([text.offsets for text in found], Offsets),
        make_lists([runs(text.target) for text in found], Offsets),
        pa.array([text.length for text in found], pa.int32()),
        pa.array([text.cut for text in found], pa.bool_()),
        pa.array([text.same is not None for text in found], pa.bool_()),
        make_lists([runs(nothing if text.same is None else text.same) for text in found], Offsets),
    ]
    schema, sink = SCHEMA.with_metadata({KEY: fingerprint.encode()}), pa.BufferOutputStream()
    with pa.ipc.new_file(sink, schema) as writer:
        writer.write_batch(pa.record_batch(columns, schema=schema))
    return sink.getvalue()


def _read(path: Path, fingerprint: str) -> pa.Table:
    try:
        require_regular(path)
        if path.stat().st_size > MOST_BYTES:
            raise DamagedSegment(f"{path} is larger than the {MOST_BYTES:,} bytes that such a file may have")
        content = pa.memory_map(os.fsencode(path)).read_buffer()
        if xxhash.xxh3_128_hexdigest(content) != path.stem:  # before it is opened: Arrow may crash on what is damaged
            raise DamagedSegment(f"{path} is damaged: its content is not what its name says")
        table = pa.ipc.open_file(pa.BufferReader(content)).read_all()
        table.validate(full=True)
    except (OSError, pa.ArrowException) as error:
        raise CacheError(f"cannot read {path}: {error}") from error
    if not table.schema.equals(SCHEMA.with_metadata({KEY: fingerprint.encode()}), check_metadata=True):
        raise CacheError(f"{path} holds something else than the texts that are wanted")
    if any(table.column(name).num_chunks != 1 for name in table.column_names):
        raise CacheError(f"{path} is in pieces, and not one batch")
    return table


def _marked(runs_R2: np.ndarray, length: int) -> np.ndarray:
    """[length] bool: what `runs` was made of."""
    marked = np.zeros(length, bool)
    for start, end in runs_R2.tolist():
        marked[start:end] = True
    return marked
