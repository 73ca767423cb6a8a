"""cache.json: a cache's identity and contract. Written before the first shard, so that no other request can mix in."""

import json
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import Field, ValidationError

from schemas.base import Strict
from schemas.errors import CacheError
from schemas.extraction import Dtype
from schemas.fingerprint import fingerprint

FORMAT = "stillroom-cache"
VERSION = 1
MANIFEST = "cache.json"
TEACHER = "teacher"
UNEMBEDDING = "unembedding.safetensors"
SHARDS = "shards"
INDEX = "index.parquet"

Kind = Literal["hidden", "mass"]
SparseKind = Literal["top_k", "sampled"]
Record = TypeVar("Record", bound=Strict)


class ArrayRecord(Strict):
    """One array of every shard: rows are the shard's tokens, end to end."""

    kind: Annotated[Kind, Field(description="hidden: states [tokens, width]; mass: token masses [tokens].")]
    layer: Annotated[int, Field(ge=0, description="Index into the model's hidden_states.")]
    width: Annotated[int | None, Field(description="Columns; null for an array of one number a token.")]
    dtype: Annotated[Dtype, Field(description="What the numbers are; bfloat16 lies on disk as uint16.")]
    encoding: Annotated[Literal["raw"], Field(description="How they are coded; raw is the plain numbers.")] = "raw"

    @property
    def path(self) -> str:
        """Where the array stands in a shard's Zarr group, e.g. `hidden/12`."""
        return f"{self.kind}/{self.layer}"


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
    corpus: CorpusRecord
    units: Annotated[int, Field(ge=1, description="Shards that a complete cache has.")]
    provenance: Annotated[
        dict[str, str], Field(description="Versions of Python and of the libraries; not part of the identity.")
    ]

    def array(self, kind: Kind, layer: int) -> ArrayRecord | None:
        """The record of one array, or None if the cache does not hold it."""
        return next((a for a in self.arrays if a.kind == kind and a.layer == layer), None)


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
