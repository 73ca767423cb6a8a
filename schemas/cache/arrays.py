"""The arrays of a shard and the kinds of states they hold: what a config asks for, what is stored, how it is proven."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any, ClassVar, Generic, Literal, TypeVar

import numpy as np
from pydantic import Field, field_validator

from schemas.cache.dtypes import ArrayDtype, Dtype
from schemas.cache.row_units import Rows, Unit
from schemas.cache.teacher import TeacherRecord
from schemas.form import require_instance
from schemas.registry import Registry
from schemas.strict import Strict

Settings = TypeVar("Settings")
ROWS_AT_ONCE = 65_536
# Names that mean something else in cache.json, in its identity or in the section `states` of a config.
RESERVED = frozenset(
    (
        *(
            "annotator",
            "arrays",
            "batching",
            "conversations",
            "corpus",
            "dtype",
            "encoding",
            "fingerprint",
            "format",
            "identity",
        ),
        *("keep_embeddings", "parts", "provenance", "rows", "sparse", "states", "teacher", "units", "version"),
    )
)


class ArrayRecord(Strict):
    """One array of every shard: a row per sample, token or pair of tokens of the shard's samples, concatenated."""

    kind: str
    """The state kind, as `states` names it; of a kind that has several arrays, KIND/PART."""
    layer: Annotated[int, Field(ge=0)]
    """Index into the model's hidden_states; the last for a next-token distribution."""
    width: Annotated[int | None, Field(ge=1)]
    """Columns; null for an array of one number per row."""
    dtype: ArrayDtype
    """What the numbers are, or were before they were encoded; bfloat16 lies on disk as uint16."""
    encoding: str = "raw"
    """Name of the codec. raw: plain numbers, to be mapped."""

    @field_validator("kind")
    @classmethod
    def _is_known(cls, kind: str) -> str:
        if kind not in _kind_of(kind).array_kinds:
            raise ValueError(f"the state kind {_kind_of(kind).name} has no arrays {kind!r}")
        return kind

    @property
    def state_kind(self) -> "StateKind[Any]":
        """The kind of states that it holds."""
        return _kind_of(self.kind)

    @property
    def path(self) -> str:
        """Where the array stands in a shard's Zarr group, e.g. `hidden/12` or `top_k/ids`."""
        return self.kind if self.state_kind.parts else f"{self.kind}/{self.layer}"

    @property
    def rows(self) -> Rows:
        """The unit that a row stands for."""
        return self.state_kind.rows

    @property
    def follows_subset(self) -> bool:
        """Whether only those tokens have rows that `states.rows` asks for."""
        return self.state_kind.follows_subset

    @property
    def unit(self) -> Unit:
        """What its rows are counted in."""
        return "kept" if self.follows_subset else self.rows

    def shape(self, rows: int) -> tuple[int, ...]:
        """[rows] or [rows, width]."""
        return (rows,) if self.width is None else (rows, self.width)


@dataclass(frozen=True)
class StoredStates:
    """The arrays that one shard holds of a state kind: of one layer, or every part of it."""

    values: tuple[Any, ...]  # of each array, [rows] or [rows, width] in the stored dtype, or a RaggedArray
    row_counts: np.ndarray  # [samples]: rows per sample, in order
    teacher: TeacherRecord
    record: Any  # what cache.json says of how they were made, or None

    def blocks(self, rows: int = ROWS_AT_ONCE) -> Iterator[tuple[int, tuple[Any, ...]]]:
        """The first of some rows, and those of every array (RaggedRows of ragged ones): memory is bounded, whatever the
        shard's size."""
        for start in range(0, len(self.values[0]), rows):
            yield start, tuple(values[start : start + rows] for values in self.values)


class StateKind(ABC, Generic[Settings]):
    """One kind of teacher states, without the model: how it is asked for, stored and checked.

    What makes its numbers stands under the same name in pipeline.teacher.kinds, because readers need no torch.
    """

    name: ClassVar[str]
    """Its field under `states`, and where its arrays' paths begin."""
    field: ClassVar[tuple[Any, Any]]
    """The type of that field, `Settings` or None, and pydantic's Field with default and description."""
    order: ClassVar[int] = 100
    """Ascending, the place of its arrays among those of other kinds: part of the format, never to be changed."""
    rows: ClassVar[Rows] = "tokens"
    follows_subset: ClassVar[bool] = False
    """Whether its rows per token are those that `states.rows` asks for; if not, every token has one."""
    of_attention: ClassVar[bool] = False
    """Whether its numbers are what attention gives, exponentials of what is computed from states: rounding moves them
    further."""
    parts: ClassVar[tuple[str, ...]] = ()
    """Names of the arrays that make one state, at NAME/PART. Without parts, there is one per layer at NAME/LAYER."""
    former: ClassVar[tuple[str, ...]] = ()
    """Names of parts that an earlier format had in their place, and that are still read."""
    record: ClassVar[type[Strict] | None] = None
    """How its states were made, as cache.json and the identity say it, in the field of its name, or of its group's."""
    group: ClassVar[str | None] = None
    """The field of cache.json that holds the records of several kinds, all of one type."""

    @property
    def array_kinds(self) -> tuple[str, ...]:
        """The `kind` of its arrays, of every format."""
        parts = dict.fromkeys((*self.parts, *self.former))
        return tuple(f"{self.name}/{part}" for part in parts) or (self.name,)

    def settings(self, states: Strict) -> Settings | None:
        """Returns what the section `states` of a config asks of it."""
        found: Settings | None = getattr(states, self.name)
        return found

    def require_possible(self, settings: Settings, teacher: Literal["causal", "encoder"]) -> None:
        """Raises ValueError if a teacher of that kind cannot give what `settings` asks for."""

    @abstractmethod
    def list_arrays(self, settings: Settings, dtype: Dtype, teacher: TeacherRecord) -> list[ArrayRecord]:
        """Its arrays in every shard, of parts in their order. `dtype` is `states.dtype`.

        Raises ConfigError that names the field: no such layer, more columns than there can be.
        """

    def make_record(self, settings: Settings, teacher: TeacherRecord) -> Strict | None:
        """How its states are made, for cache.json and the identity. Raises ConfigError."""
        return None

    def require_consistent(self, record: Any, arrays: Sequence[ArrayRecord]) -> None:
        """Raises ValueError if its `record` in cache.json contradicts its `arrays` there."""

    def find_fault(self, stored: StoredStates) -> str | None:
        """Returns what is wrong with stored states that are finite, as `row 7 is not ...`; None if nothing is.

        It is asked for each layer's array alone, or for all parts together.
        """
        return None


def _require_usable(kind: StateKind[Any]) -> None:
    require_instance(kind, StateKind)
    if kind.name in RESERVED or hasattr(Strict, kind.name):
        raise ValueError(f"the name {kind.name!r} means something else in a config or in cache.json")


KINDS: Registry[StateKind[Any]] = Registry(
    "state kind", "schemas.cache.kinds", "KIND", "stillroom.state_kinds", _require_usable
)


@lru_cache
def _kind_of(array_kind: str) -> StateKind[Any]:
    return KINDS.find(array_kind.partition("/")[0])


def keeps_tokens(arrays: Iterable[ArrayRecord]) -> bool:
    """Returns whether tokens are kept. If not, a shard holds neither tokens nor spans, and costs bytes per sample."""
    return any(array.rows != "samples" for array in arrays)


def by_kind(arrays: Iterable[ArrayRecord]) -> Mapping[str, list[ArrayRecord]]:
    """Arrays by the name of their state kind, both in the order given."""
    found: dict[str, list[ArrayRecord]] = {}
    for array in arrays:
        found.setdefault(array.state_kind.name, []).append(array)
    return found
