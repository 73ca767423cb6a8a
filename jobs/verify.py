"""`stillroom verify`: read a whole cache and check everything that can be checked without the teacher."""

from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track

from schemas.errors import CacheError, StillroomError
from schemas.fingerprint import hash_file
from schemas.manifest import SPARSE_ARRAYS, TEACHER, ArrayRecord, CacheManifest, SparseKind
from schemas.shard import STATES, shard_path
from schemas.states import check_group
from schemas.teacher_files import check_teacher_files
from trainer.cache import Cache, Shard
from trainer.teacher_head import load_teacher_embedding, load_teacher_head

ROWS_AT_ONCE = 65_536
TOLERANCE = 1e-4  # of a sum of float32 probabilities


def verify_cache(path: Path) -> None:
    """Print a summary if all is well. Raises CacheError with one line for every damaged shard."""
    console = Console(stderr=True)
    cache = Cache(path)
    if not check_teacher_files(path):
        print(f"{path / TEACHER} was written without checksums: only its shapes and numbers are checked")
    load_teacher_head(path, cache.manifest)
    load_teacher_embedding(path, cache.manifest)
    problems, tokens = list[str](), 0
    for unit in track(range(cache.manifest.units), "verifying", console=console, disable=not console.is_terminal):
        try:
            shard = Shard(shard_path(path, unit), cache.manifest)
            verify_shard(shard, cache.manifest)
            tokens += shard.record.tokens
        except StillroomError as error:
            problems.append(str(error))
    if problems:
        raise CacheError(f"{len(problems)} of {cache.manifest.units} shards are damaged:\n  " + "\n  ".join(problems))
    _check_index(cache, tokens)
    print(
        f"{path}: {cache.manifest.units} shards, {len(cache):,} samples, {tokens:,} tokens; "
        "every checksum, row and number is good"
    )


def verify_shard(shard: Shard, manifest: CacheManifest) -> None:
    """Checksums, then format, rows and numbers. Raises CacheError at the first that is wrong."""
    for name, file in shard.record.files.items():
        if hash_file(shard.path / name) != file.sha256:
            raise CacheError(f"{shard.path / name} does not have its checksum; remove {shard.path} and extract again")
    check_group(shard.path / STATES)
    next_row = 0
    for row in range(shard.record.samples):
        sample = shard.sample(row)
        start, count = shard.rows(row)
        if start != next_row or count != len(sample.token_ids) or count != len(sample.token_offsets):
            raise CacheError(
                f"{shard.path} row {row}, sample {sample.id!r}: {count} states for {len(sample.token_ids)} tokens"
            )
        next_row += count
    if next_row != shard.record.tokens:
        raise CacheError(f"{shard.path}: samples have {next_row} tokens, shard.json says {shard.record.tokens}")
    for array in manifest.arrays:
        if array.dtype != "int32":
            _check_finite(shard, array)
    for kind in manifest.sparse:
        _check_distributions(shard, kind, manifest)


def _check_finite(shard: Shard, array: ArrayRecord) -> None:
    values = shard.array(array)
    for start in range(0, len(values), ROWS_AT_ONCE):
        block = values[start : start + ROWS_AT_ONCE]
        # A bfloat16 is not finite when all eight bits of its exponent are set.
        finite = (block & 0x7F80) != 0x7F80 if array.dtype == "bfloat16" else np.isfinite(block)
        if not finite.all():
            row = start + int(np.flatnonzero(~finite.reshape(len(block), -1).all(axis=1))[0])
            raise CacheError(f"{shard.path}: {array.path} row {row} is not finite; remove the shard and extract again")


def _check_distributions(shard: Shard, kind: SparseKind, manifest: CacheManifest) -> None:
    """Ids within the vocabulary; of top_k no token twice and 1 in all; of sampled no negative weight."""
    last = manifest.teacher.num_layers
    arrays = [manifest.array(path, last) for path in SPARSE_ARRAYS[kind]]
    ids_Nn, values_Nn = (shard.array(array) for array in arrays if array is not None)
    for start in range(0, len(ids_Nn), ROWS_AT_ONCE):
        ids, values = ids_Nn[start : start + ROWS_AT_ONCE], values_Nn[start : start + ROWS_AT_ONCE]
        good = ((ids >= 0) & (ids < manifest.teacher.vocab_size)).all(axis=1)
        if kind == "top_k":
            good &= (np.diff(np.sort(ids, axis=1), axis=1) > 0).all(axis=1)
            good &= np.abs(np.exp(values, dtype=np.float64).sum(axis=1) - 1) <= TOLERANCE
        else:
            good &= (values >= 0).all(axis=1)
        if not good.all():
            row = start + int(np.flatnonzero(~good)[0])
            raise CacheError(f"{shard.path}: {kind} row {row} is no distribution; remove the shard and extract again")


def _check_index(cache: Cache, tokens: int) -> None:
    """Every entry finds its sample, and none is missing. Raises CacheError or PairingError."""
    counted = int(cache.tokens.sum())
    if counted != tokens:
        raise CacheError(
            f"the index counts {counted} tokens, the shards {tokens}; run `stillroom reindex {cache.path}`"
        )
    for position in range(len(cache)):
        try:
            cache.sample(position)
        except IndexError:
            raise CacheError(f"the index points outside a shard; run `stillroom reindex {cache.path}`") from None
