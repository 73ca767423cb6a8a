"""cache.json: a cache's identity and contract. Written before the first shard, so that no other request can mix in."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import Field, create_model, model_validator

from schemas.cache.arrays import KINDS, ArrayRecord, by_kind
from schemas.cache.codec import CODECS
from schemas.cache.conversations import ConversationsRecord
from schemas.cache.parts import PartRecord
from schemas.cache.records import nest_records, read_records, record_fields, records_of
from schemas.cache.teacher import TeacherRecord
from schemas.cache.token_rows import KeptRows
from schemas.errors import CacheError
from schemas.storage.fingerprint import differences, fingerprint
from schemas.storage.record import read_record
from schemas.strict import WITHOUT_SOURCE, Strict

FORMAT = "stillroom-cache"
VERSION: Literal[2] = 2
VERSION_OF_ADDED: Literal[3] = 3
MANIFEST = "cache.json"
TEACHER = "teacher"
UNEMBEDDING = "unembedding.safetensors"
EMBEDDINGS = "embeddings.safetensors"
INDEX = "index.parquet"


class CorpusRecord(Strict):
    """Counts of what was read, and of what was left out of it before tokenizing."""

    samples: Annotated[int, Field(ge=1, description="Samples in the plan.")]
    empty: Annotated[
        int,
        Field(
            ge=0, description="Records left out because their text or response was blank, or nothing of it is learnt."
        ),
    ]
    refused: Annotated[int, Field(ge=0, description="Conversations left out because they are refused.")] = 0
    repeated: Annotated[int, Field(ge=0, description="Records left out because an earlier one was the same.")] = 0
    sha256: Annotated[str, Field(description="Hash over ids, prompts and responses, in order.")]


class _Contract(Strict):
    """The whole of cache.json."""

    format: Literal["stillroom-cache"] = "stillroom-cache"
    version: Annotated[
        Literal[1, 2, 3], Field(description="3 where arrays were added to the cache, whose readers must know of them.")
    ] = 2
    fingerprint: Annotated[str, Field(description="SHA-256 of `identity` in canonical JSON.")]
    identity: Annotated[dict[str, Any], Field(description="Everything that changes a byte of the shards.")]
    teacher: TeacherRecord
    annotator: Annotated[str, Field(description="Name and version of the annotator.")]
    arrays: Annotated[list[ArrayRecord], Field(min_length=1)]


if TYPE_CHECKING:

    class _WithRecords(_Contract):
        """With the fields that the kinds of states bring."""

else:
    _WithRecords = create_model(
        "_WithRecords", __base__=_Contract, __module__=__name__, __cls_kwargs__=WITHOUT_SOURCE, **record_fields()
    )


class CacheManifest(_WithRecords):
    """The whole of cache.json. Between `arrays` and `corpus` stands how states were made, where their kind says it."""

    corpus: CorpusRecord
    units: Annotated[int, Field(ge=1, le=2**31 - 1, description="Shards that a complete cache has.")]
    rows: Annotated[
        KeptRows,
        Field(description="Tokens that have rows of hidden states and next-token distributions."),
    ] = "all"
    conversations: Annotated[
        ConversationsRecord | None,
        Field(description="How conversations were rendered; null where texts are none."),
    ] = None
    parts: Annotated[
        list[PartRecord], Field(description="What it was before it was extended, the earliest first; mostly empty.")
    ] = []
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
        steps = [(0, 0, set[str]()), *((part.samples, part.units, self._held(part)) for part in self.parts)]
        steps.append((self.corpus.samples, self.units, {array.path for array in self.arrays}))
        if self.parts and not all(_grows(before, after) for before, after in pairwise(steps)):
            raise ValueError("its parts do not grow from one to the next; extract again")
        if (self.version == VERSION_OF_ADDED) != any(part.arrays for part in self.parts):
            raise ValueError(
                f"version {VERSION_OF_ADDED} is that of caches to which arrays were added, and of no other"
            )
        return self

    def _held(self, part: PartRecord) -> set[str]:
        """The paths of the arrays that there were in a part."""
        return {array.path for array in self.arrays} if part.arrays is None else set(part.arrays)

    @property
    def records(self) -> dict[str, Any]:
        """How states were made, by the name of their kind, of the kinds that say it."""
        return read_records(self)

    def array(self, kind: str, layer: int) -> ArrayRecord | None:
        """The record of one array, or None if the cache does not hold it."""
        return next((a for a in self.arrays if a.kind == kind and a.layer == layer), None)

    def fingerprint_of(self, unit: int) -> str:
        """The fingerprint in a unit's shard: what the cache's was when its samples were first in it."""
        return next((part.fingerprint for part in self.parts if unit < part.units), self.fingerprint)

    def by_arrival(self) -> list[Self]:
        """What the cache is for the arrays that came together, the earliest first: itself, unless some were added.

        Each is a manifest of these arrays alone, whose parts begin where they came.
        """
        steps = [*(self._held(part) for part in self.parts), {array.path for array in self.arrays}]
        found, seen = list[Self](), set[str]()
        for number, held in enumerate(steps):
            arrays = [array for array in self.arrays if array.path in held - seen]
            seen |= held
            if not arrays:
                continue
            parts = [part.model_copy(update={"arrays": None}) for part in self.parts[number:]]
            found.append(self.of_arrays(arrays).model_copy(update={"parts": parts}))
        return found

    def of_arrays(self, arrays: Sequence[ArrayRecord]) -> Self:
        """The same of some of its arrays alone."""
        return self.model_copy(update={"arrays": list(arrays), **records_of(self, by_kind(arrays))})

    def check_copies(self, cache: Path) -> None:
        """Raises CacheError, naming the fields, if anything beside `identity` contradicts it.

        The fingerprint covers only `identity`.
        """
        copies = self._copies()
        wrong = list(differences(copies, {name: self.identity.get(name) for name in copies}))
        last = self.teacher.num_layers
        wrong += [f"{array.path} is of layer {array.layer} of {last}" for array in self.arrays if array.layer > last]
        if wrong:
            raise CacheError(f"{cache / MANIFEST} contradicts its own identity ({'; '.join(wrong)}); extract again")

    def _copies(self) -> dict[str, Any]:
        """The identity as it would be in the fields that have copies."""
        teacher, corpus = self.identity.get("teacher"), self.identity.get("corpus")
        head, embedding = self.teacher.head, self.teacher.embedding
        dtypes = sorted({matrix.dtype for matrix in (head, embedding) if matrix is not None})
        return {
            "format": f"{self.format} {self.version}",
            "annotator": self.annotator,
            "corpus": (corpus if isinstance(corpus, dict) else {})
            | self.corpus.model_dump(include={"sha256", "samples"}),
            "states": {a.path: a.model_dump(include={"width", "dtype", "encoding"}) for a in self.arrays},
            "teacher": (teacher if isinstance(teacher, dict) else {})
            | self.teacher.model_dump(include={"kind", "max_tokens", "quantisation"})
            | ({"dtype": " and ".join(dtypes)} if dtypes else {}),
            "rows": None if self.rows == "all" else self.rows,
            "parts": [part.model_dump(mode="json") for part in self.parts] or None,
            "keep_embeddings": None if embedding is None else True,
            "conversations": None if self.conversations is None else self.conversations.model_dump(mode="json"),
            **dict.fromkeys(record_fields()),
            **nest_records(self.records),
        }

    def to_json(self) -> str:
        """The text of cache.json. What came after format 1 was released is left out where it says nothing."""
        unused: dict[str, Any] = {name: True for name in record_fields() if not getattr(self, name)}
        if self.rows == "all":
            unused["rows"] = True
        if self.conversations is None:
            unused["conversations"] = True
        if not self.parts:
            unused["parts"] = True
        unused["corpus"] = {name for name in ("refused", "repeated") if not getattr(self.corpus, name)}
        unused["teacher"] = {name for name in ("embedding", "quantisation") if getattr(self.teacher, name) is None}
        if not any(array.unit == "pairs" and array.width for array in self.arrays):
            unused["teacher"] |= {"heads"}
        return self.model_dump_json(indent=1, exclude=unused) + "\n"


def _grows(before: tuple[int, int, set[str]], after: tuple[int, int, set[str]]) -> bool:
    """Whether samples and the units that they are in became more, or arrays did, or all; and nothing fewer."""
    same = before[:2] == after[:2]
    more = before[0] < after[0] and before[1] < after[1]
    return before[2] <= after[2] and (more or (same and before[2] < after[2]))


def read_manifest(cache: Path) -> CacheManifest:
    """cache.json of the folder `cache`. Raises CacheError: no cache, an unknown version, damaged content."""
    manifest = read_record(cache / MANIFEST, CacheManifest, CacheError, f"{cache} is not a stillroom cache")
    if fingerprint(manifest.identity) != manifest.fingerprint:
        raise CacheError(
            f"{cache / MANIFEST} was altered: its identity does not hash to its fingerprint; extract again"
        )
    return manifest
