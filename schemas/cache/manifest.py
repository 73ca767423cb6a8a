"""cache.json: a cache's identity and contract. Written before the first shard, so that no other request can mix in."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import Field, create_model, model_validator

from schemas.cache.arrays import KINDS, ArrayRecord, by_kind
from schemas.cache.codec import CODECS
from schemas.cache.records import read_records, record_fields
from schemas.cache.teacher import TeacherRecord
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


class CorpusRecord(Strict):
    """What was read, and what was left out of it before tokenizing."""

    samples: Annotated[int, Field(ge=1, description="Samples in the plan.")]
    empty: Annotated[int, Field(ge=0, description="Records left out because their text or response was blank.")]
    sha256: Annotated[str, Field(description="Hash over ids, prompts and responses, in order.")]


class _Contract(Strict):
    """The whole of cache.json."""

    format: Literal["stillroom-cache"] = "stillroom-cache"
    version: Literal[1] = 1
    fingerprint: Annotated[str, Field(description="SHA-256 of `identity` in canonical JSON.")]
    identity: Annotated[dict[str, Any], Field(description="Everything that changes a byte of the shards.")]
    teacher: TeacherRecord
    annotator: Annotated[str, Field(description="Name and version of the annotator.")]
    arrays: Annotated[list[ArrayRecord], Field(min_length=1)]


if TYPE_CHECKING:

    class _WithRecords(_Contract):
        """With the fields that the kinds of states bring."""

else:
    _WithRecords = create_model("_WithRecords", __base__=_Contract, __module__=__name__, **record_fields())


class CacheManifest(_WithRecords):
    """The whole of cache.json. Between `arrays` and `corpus` stands how states were made, where their kind says it."""

    corpus: CorpusRecord
    units: Annotated[int, Field(ge=1, description="Shards that a complete cache has.")]
    provenance: Annotated[
        dict[str, str], Field(description="Versions of Python and of the libraries; not part of the identity.")
    ]

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        arrays = by_kind(self.arrays)
        for name, record in self.records.items():
            KINDS[name].require_consistent(record, arrays.get(name, []))
        for array in self.arrays:
            CODECS.find(array.encoding)
        return self

    @property
    def records(self) -> dict[str, Any]:
        """How states were made, by the name of their kind, of the kinds that say it."""
        return read_records(self)

    def array(self, kind: str, layer: int) -> ArrayRecord | None:
        """The record of one array, or None if the cache does not hold it."""
        return next((a for a in self.arrays if a.kind == kind and a.layer == layer), None)

    def to_json(self) -> str:
        """The text of cache.json. What came after the format was released is left out where it says nothing, so that
        the readers of then open such a cache."""
        unused: dict[str, Any] = {name: True for name in record_fields() if not getattr(self, name)}
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
