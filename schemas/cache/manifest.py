"""cache.json: a cache's identity and contract. Written before the first shard, so that no other request can mix in."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import Field, ValidationError, model_validator

from schemas.configs.extraction import Dtype, Pooling
from schemas.errors import CacheError
from schemas.storage.fingerprint import fingerprint
from schemas.strict import Strict

FORMAT = "stillroom-cache"
VERSION = 1
MANIFEST = "cache.json"
TEACHER = "teacher"
UNEMBEDDING = "unembedding.safetensors"
EMBEDDINGS = "embeddings.safetensors"
SHARDS = "shards"
INDEX = "index.parquet"

Kind = Literal["hidden", "mass", "pooled", "top_k/ids", "top_k/logprobs", "sampled/ids", "sampled/weights"]
SparseKind = Literal["top_k", "sampled"]
ArrayDtype = Dtype | Literal["int32"]
# The two arrays of a next-token distribution: which tokens, and what is known of them.
SPARSE_ARRAYS: dict[SparseKind, tuple[Kind, Kind]] = {
    "top_k": ("top_k/ids", "top_k/logprobs"),
    "sampled": ("sampled/ids", "sampled/weights"),
}
NO_TAIL = -1e4  # the logarithm of a tail that has no token; its exponential is 0 in any dtype
Record = TypeVar("Record", bound=Strict)


class ArrayRecord(Strict):
    """One array of every shard: rows are the shard's tokens, end to end, or its samples."""

    kind: Annotated[
        Kind,
        Field(
            description="hidden: states [tokens, width]; mass: token masses [tokens]; pooled: sentence embeddings "
            "[samples, width]; top_k and sampled: next-token distributions [tokens, entries], in two arrays each."
        ),
    ]
    layer: Annotated[
        int, Field(ge=0, description="Index into the model's hidden_states; the last for a next-token distribution.")
    ]
    width: Annotated[int | None, Field(description="Columns; null for an array of one number a token.")]
    dtype: Annotated[ArrayDtype, Field(description="What the numbers are; bfloat16 lies on disk as uint16.")]
    encoding: Annotated[
        Literal["raw", "zstd"],
        Field(description="raw: plain numbers, to be mapped; zstd: Zarr's own codec, read whole and once a shard."),
    ] = "raw"

    @property
    def path(self) -> str:
        """Where the array stands in a shard's Zarr group, e.g. `hidden/12` or `top_k/ids`."""
        return self.kind if "/" in self.kind else f"{self.kind}/{self.layer}"

    @property
    def rows(self) -> Literal["tokens", "samples"]:
        """What a row stands for."""
        return "samples" if self.kind == "pooled" else "tokens"


def keeps_tokens(arrays: Iterable[ArrayRecord]) -> bool:
    """Whether anything is kept by token. If not, a shard holds neither tokens nor spans, and costs bytes a sample."""
    return any(array.rows == "tokens" for array in arrays)


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


class EmbeddingRecord(Strict):
    """The matrix in teacher/embeddings.safetensors: what the model looks its tokens up in, before any scale."""

    dtype: Annotated[Dtype, Field(description="Dtype of the saved matrix: the compute dtype.")]
    rows: Annotated[int, Field(ge=1, description="Tokens; may exceed the tokenizer's.")]
    width: Annotated[int, Field(ge=1, description="d_T, but for models that widen their embeddings.")]


class HeadRecord(Strict):
    """How teacher/unembedding.safetensors turns a final hidden state h into logits:
    z = scale * (h W_U^T + b), then softcap * tanh(z / softcap) if there is a soft-cap."""

    dtype: Annotated[Dtype, Field(description="Dtype of the saved matrix: the compute dtype.")]
    bias: Annotated[bool, Field(description="Whether a bias is saved with it.")]
    scale: Annotated[float, Field(description="Factor on the logits, before the soft-cap.")] = 1.0
    softcap: Annotated[float | None, Field(description="Gemma-style soft-cap of the logits.")] = None


class TeacherRecord(Strict):
    """What a student's side must know of the teacher."""

    model: Annotated[str, Field(description="Folder name or hub id, as information.")]
    kind: Literal["causal", "encoder"]
    num_layers: Annotated[int, Field(ge=1, description="L; hidden_states has L + 1 entries.")]
    hidden_size: Annotated[int, Field(ge=1, description="d_T.")]
    vocab_size: Annotated[int, Field(ge=1, description="Rows of the unembedding; may exceed the tokenizer's.")]
    max_tokens: Annotated[int, Field(ge=2, description="Samples were cut or left out above this.")]
    head: Annotated[HeadRecord | None, Field(description="Null for an encoder.")] = None
    embedding: Annotated[EmbeddingRecord | None, Field(description="Null unless asked for.")] = None


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
    text = read_text(cache / MANIFEST, f"{cache} is not a stillroom cache")
    manifest = parse_record(text, CacheManifest, cache / MANIFEST)
    if fingerprint(manifest.identity) != manifest.fingerprint:
        raise CacheError(
            f"{cache / MANIFEST} was altered: its identity does not hash to its fingerprint; extract again"
        )
    return manifest


def read_text(path: Path, otherwise: str) -> str:
    """The text of a small file of a cache. Raises CacheError that begins with `otherwise`."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise CacheError(f"{otherwise}: there is no {path.name}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise CacheError(f"{otherwise}: cannot read {path}: {error}") from error


def parse_record(text: str, record: type[Record], path: Path) -> Record:
    """`text` as a versioned record. Raises CacheError; an unknown version is named before anything else is judged."""
    try:
        data = json.loads(text)
    except ValueError as error:
        raise CacheError(f"{path} is damaged: not JSON ({error})") from error
    found = (data.get("format"), data.get("version")) if isinstance(data, dict) else (None, None)
    known = (record.model_fields["format"].default, record.model_fields["version"].default)
    if found != known:
        raise CacheError(
            f"{path}: this is {found[0]!r} version {found[1]!r}; this stillroom reads {known[0]!r} version {known[1]}"
        )
    try:
        return record.model_validate(data)
    except ValidationError as error:
        places = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise CacheError(f"{path} is damaged: {places}") from error
