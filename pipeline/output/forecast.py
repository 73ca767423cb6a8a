"""How many tokens and bytes the units of a cache come to: as the shards say that are there, and as these let expect of
the others. Where there are none, as the texts and the presets let expect."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

from pipeline.corpus.plan import Unit, predict_bytes
from pipeline.request.request import Request
from pipeline.request.sizes import Sizes, array_bytes, array_rows
from schemas.cache.sections import Section
from schemas.cache.seen_shard import Seen, SeenShard
from schemas.cache.shard import bytes_of, read_shard

RECORDS = 32


@dataclass(frozen=True)
class Forecast:
    """Of a request, some of whose shards were `seen` in its `sections`. Reads no more of them, except for `arrays`."""

    request: Request
    sections: list[Section]
    seen: Seen

    @property
    def shards(self) -> int:
        """How many are there."""
        return sum(map(len, self.seen.values()))

    def tokens(self, units: Iterable[Unit]) -> int:
        """That they have, or will have if they are as those that are there."""
        return sum(self._units[unit.number].tokens for unit in units)

    def bytes(self, section: Section, units: Iterable[Unit]) -> int:
        """That their shards of a section will take, if these are as those that are there."""
        wanted = [self._units[unit.number] for unit in units]
        return round(self._predict(section, wanted) * self._shares.get(section.number, 1.0))

    @property
    def bytes_there(self) -> int:
        """Of all shards that are there."""
        return sum(shard.bytes for seen in self.seen.values() for shard in seen.values())

    @property
    def share(self) -> float:
        """How much the shards that are there take of what was foreseen of them before there was one."""
        units = self.request.plan.units
        foreseen = sum(self._predict(s, [unit for unit in units if unit.number in self._of(s)]) for s in self.sections)
        return self.bytes_there / foreseen

    def arrays(self) -> tuple[Sizes, Sizes]:
        """By path, about how many rows and bytes each array will have. Reads the records of up to RECORDS shards of a
        section. Raises CacheError: one is damaged by now."""
        request = self.request
        expected = replace(request, plan=request.plan.of_units(list(self._units.values())))
        rows = array_rows(expected)
        return rows, array_bytes(expected, rows) | self._measured(rows)

    def _measured(self, rows: Sizes) -> Sizes:
        """Of so many rows of each array, the bytes as in the shards that are there; nothing of others."""
        found = Sizes()
        for section in self.sections:
            some = sorted(self._of(section))
            records = [
                read_shard(section.shard(unit), section.manifest.fingerprint_of(unit))
                for unit in some[:: -(-len(some) // RECORDS) or 1]
            ]
            for array in section.manifest.arrays:
                if there := sum(record.rows(array) for record in records):
                    found[array.path] = round(rows[array.path] * bytes_of(records, array) / there)
        return found

    @cached_property
    def _units(self) -> dict[int, Unit]:
        """Those of the plan, with the tokens of their shards, or as many as they will have in proportion. A cache of
        sentence embeddings keeps no tokens, and its units stay as they were planned."""
        planned = self.request.plan.units
        there = {number: shard.record.tokens for number, shard in self.seen.get(0, {}).items()}
        expected = sum(unit.tokens for unit in planned if unit.number in there)
        if not sum(there.values()) or not expected:
            return {unit.number: unit for unit in planned}
        rate = sum(there.values()) / expected
        return {
            unit.number: replace(unit, tokens=there.get(unit.number, round(unit.tokens * rate))) for unit in planned
        }

    @cached_property
    def _shares(self) -> dict[int, float]:
        """Of each section that has shards, what these take by what is foreseen of as many tokens."""
        found = dict[int, float]()
        for section in self.sections:
            if seen := self._of(section):
                foreseen = self._predict(section, [self._units[number] for number in seen])
                found[section.number] = sum(shard.bytes for shard in seen.values()) / foreseen
        return found

    def _of(self, section: Section) -> Mapping[int, SeenShard]:
        return self.seen.get(section.number, {})

    def _predict(self, section: Section, units: Iterable[Unit]) -> int:
        request = self.request
        arrays, bits = section.manifest.arrays, request.expected_bits
        return predict_bytes(request.plan, arrays, units, bits, section.holds_texts, request.causal)
