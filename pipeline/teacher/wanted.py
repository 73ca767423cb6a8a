"""The states that a teacher is to give: the arrays of every shard, and how their numbers are made."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from schemas.cache.arrays import KINDS, ArrayRecord
from schemas.cache.encoding import EncodingRecord
from schemas.cache.manifest import CacheManifest
from schemas.cache.teacher import TeacherRecord
from schemas.cache.token_rows import KeptRows
from schemas.configs.states import StatesConfig, asked_kinds
from schemas.errors import ConfigError
from schemas.strict import Strict


@dataclass(frozen=True)
class WantedStates:
    """The states that one teacher is to give, settled before it is loaded."""

    teacher: TeacherRecord
    arrays: Sequence[ArrayRecord]
    records: Mapping[str, Strict]  # how states are made, by the name of their kind, of the kinds that say it
    rows: KeptRows = "all"  # which tokens the arrays are of that follow a subset

    @classmethod
    def of_config(cls, states: StatesConfig, teacher: TeacherRecord) -> "WantedStates":
        """Returns what `states` asks of a teacher: kinds in their fixed order, each kind's layers ascending.

        Raises ConfigError: nothing to keep, or what a kind raises, such as for a layer that is not there.
        """
        asked = list(asked_kinds(states))
        arrays = [array for kind, settings in asked for array in kind.list_arrays(settings, states.dtype, teacher)]
        if not arrays:
            *names, last = KINDS
            raise ConfigError(f"states: {', '.join(names)} and {last} are all empty: there is nothing to keep")
        made = ((kind.name, kind.make_record(settings, teacher)) for kind, settings in asked)
        records = {name: record for name, record in made if record is not None}
        return cls(teacher, arrays, records, states.rows if any(a.follows_subset for a in arrays) else "all")

    @property
    def is_calibrated(self) -> bool:
        """Whether hidden states are encoded by tables that are to be learnt."""
        encoding = self.records.get("hidden")
        return isinstance(encoding, EncodingRecord) and encoding.is_calibrated

    @classmethod
    def of_cache(cls, manifest: CacheManifest) -> "WantedStates":
        """Returns what a cache's shards hold."""
        return cls(manifest.teacher, manifest.arrays, manifest.records, manifest.rows)
