"""cache.json: a cache's identity and contract. Written before the first shard, so that no other request can mix in."""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from schemas.cache.arrays import ArrayRecord, Kind, SparseKind
from schemas.cache.teacher import TeacherRecord
from schemas.configs.extraction import Pooling
from schemas.errors import CacheError
from schemas.storage.fingerprint import fingerprint
from schemas.storage.record import read_record
from schemas.strict import Strict

FORMAT = "stillroom-cache"
VERSION = 1
MANIFEST = "cache.json"
TEACHER = "teacher"
UNEMBEDDING = "unembedding.safetensors"
EMBEDDINGS = "embeddings.safetensors"
SHARDS = "shards"
INDEX = "index.parquet"

# The two arrays of a next-token distribution: which tokens, and what is known of them.
SPARSE_ARRAYS: dict[SparseKind, tuple[Kind, Kind]] = {
    "top_k": ("top_k/ids", "top_k/logprobs"),
    "sampled": ("sampled/ids", "sampled/weights"),
}
NO_TAIL = -1e4  # the logarithm of a tail that has no token; its exponential is 0 in any dtype


class PooledRecord(Strict):
    """How a sample's states became its embedding."""

    pooling: Annotated[Pooling, Field(description="Over all tokens, of the first, or of the last.")]
    normalise: Annotated[bool, Field(description="Whether it was scaled to length 1.")]
    layer: Annotated[int, Field(ge=0, description="Index into the model's hidden_states.")]


class SparseRecord(Strict):
    """How a next-token distribution was cut down: p = softmax(z / temperature), of the teacher's logits z.

    top_k: the likeliest tokens; a last column of their log-probabilities is that of all others together.
    sampled: draws with replacement from q ~ p^proposal, each of weight p / q / entries.
    """

    temperature: Annotated[float, Field(gt=0, description="Of p; a loss must soften the student alike.")]
    entries: Annotated[int, Field(ge=1, description="k, or the number of draws: columns, but for top_k's tail.")]
    proposal: Annotated[float | None, Field(description="Exponent of the proposal q; null for top_k.")] = None
    seed: Annotated[int | None, Field(description="Of the draws; null for top_k.")] = None


def sparse_widths(kind: SparseKind, entries: int) -> tuple[int, int]:
    """Columns of the two arrays of a distribution: top_k has a tail."""
    return entries, entries + (kind == "top_k")


class CorpusRecord(Strict):
    """What was read, and what was left out of it before tokenizing."""

    samples: Annotated[int, Field(ge=1, description="Samples in the plan.")]
    empty: Annotated[int, Field(ge=0, description="Records left out because their text or response was blank.")]
    sha256: Annotated[str, Field(description="Hash over ids, prompts and responses, in order.")]


class CacheManifest(Strict):
    """The whole of cache.json."""

    format: Literal["stillroom-cache"] = "stillroom-cache"
    version: Literal[1] = 1
    fingerprint: Annotated[str, Field(description="SHA-256 of `identity` in canonical JSON.")]
    identity: Annotated[dict[str, Any], Field(description="Everything that changes a byte of the shards.")]
    teacher: TeacherRecord
    annotator: Annotated[str, Field(description="Name and version of the annotator.")]
    arrays: Annotated[list[ArrayRecord], Field(min_length=1)]
    pooled: Annotated[PooledRecord | None, Field(description="Null if no sentence embeddings are kept.")] = None
    sparse: Annotated[dict[SparseKind, SparseRecord], Field(description="Next-token distributions that are kept.")] = {}
    corpus: CorpusRecord
    units: Annotated[int, Field(ge=1, description="Shards that a complete cache has.")]
    provenance: Annotated[
        dict[str, str], Field(description="Versions of Python and of the libraries; not part of the identity.")
    ]

    @model_validator(mode="after")
    def _widths(self) -> Self:
        for name, record in self.sparse.items():
            for kind, width in zip(SPARSE_ARRAYS[name], sparse_widths(name, record.entries), strict=True):
                found = [array.width for array in self.arrays if array.kind == kind]
                if found != [width]:
                    raise ValueError(f"{kind} should be one array of {width} columns, not {found}; extract again")
        return self

    def array(self, kind: Kind, layer: int) -> ArrayRecord | None:
        """The record of one array, or None if the cache does not hold it."""
        return next((a for a in self.arrays if a.kind == kind and a.layer == layer), None)

    def to_json(self) -> str:
        """The text of cache.json. What came after the format was released is left out where it says nothing, so that
        the readers of then open such a cache."""
        unused: dict[str, Any] = {name: True for name in ("pooled", "sparse") if not getattr(self, name)}
        if self.teacher.embedding is None:
            unused["teacher"] = {"embedding"}
        return self.model_dump_json(indent=1, exclude=unused) + "\n"


def read_manifest(cache: Path) -> CacheManifest:
    """cache.json of the folder `cache`. Raises CacheError: no cache, an unknown version, damaged content."""
    manifest = read_record(cache / MANIFEST, CacheManifest, CacheError, f"{cache} is not a stillroom cache")
    if fingerprint(manifest.identity) != manifest.fingerprint:
        raise CacheError(
            f"{cache / MANIFEST} was altered: its identity does not hash to its fingerprint; extract again"
        )
    return manifest
