"""Random samples of a cache, computed once more by its teacher, each alone: is what is cached what the teacher gives?

Takes the teacher's forward pass over the samples that are drawn, one at a time; memory is that of one.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.encoding.unit import UnitEncoder
from pipeline.replay.compare import NOISE, Comparison
from pipeline.replay.gap import Gap
from pipeline.replay.samples import SampleReader, draw_positions
from pipeline.teacher.run import Teacher
from schemas.cache.manifest import CacheManifest
from schemas.cache.reader import Cache

MEANS = 3


@dataclass(frozen=True)
class SampleGap:
    """Of one sample."""

    sample: str
    shard: int
    gap: Gap

    @property
    def excess(self) -> float:
        """What was found, by what is allowed."""
        return self.gap.found / self.gap.allowed if self.gap.allowed else float(self.gap.found > 0)


@dataclass(frozen=True)
class Replayed:
    """One array of a cache, or one kind of several, over the samples that were drawn."""

    path: str
    layer: int
    samples: Sequence[SampleGap]

    @property
    def total(self) -> Gap:
        """Of the rows of all samples."""
        return Gap.total([sample.gap for sample in self.samples])

    @property
    def worst(self) -> SampleGap:
        """The sample furthest off, by what is allowed."""
        return max(self.samples, key=lambda sample: sample.excess)

    @property
    def fault(self) -> str | None:
        """Where and by how much it is off, if that is more than rounding explains: in one sample, or in all together.

        Together they show less than one alone can.
        """
        worst, total = self.worst, self.total
        if not worst.gap.is_wide and not total.is_wide:
            return None
        off, over = (worst.gap, "") if worst.gap.is_wide else (total, f" over {len(self.samples)} samples")
        return (
            f"shard {worst.shard}, sample {worst.sample!r}, layer {self.layer}: {self.path} is off by {off.found:.2g}"
            f"{over} (allowed: {off.allowed:.2g})"
        )


@dataclass(frozen=True)
class Decoded:
    """What encoding costs the final states that were drawn, beside what the shards recorded when it was done."""

    path: str
    kl: float  # nats, on average
    recorded: float  # the same of the rows that were measured then
    allowed: float

    @property
    def fault(self) -> str | None:
        """What is wrong, if it costs more."""
        if self.kl <= self.allowed:
            return None
        return (
            f"{self.path}: its predictions, decoded, are off by {self.kl:.3g} nats on average, and its shards recorded "
            f"{self.recorded:.3g} (allowed: {self.allowed:.3g})"
        )


@dataclass(frozen=True)
class Replay:
    """What was found."""

    arrays: Sequence[Replayed]
    decoded: Decoded | None  # None unless final states are encoded

    @property
    def not_compared(self) -> list[str]:
        """The arrays of which no row was looked at: nothing here reads a codec of another package."""
        return [array.path for array in self.arrays if not len(array.total.row_N)]

    @property
    def faults(self) -> list[str]:
        """One line for each thing that is wrong."""
        found = [array.fault for array in self.arrays] + [self.decoded and self.decoded.fault]
        return [fault for fault in found if fault]


def replay(
    cache: Cache,
    teacher: Teacher,
    count: int,
    seed: int,
    on_sample: Callable[[int], None] = lambda done: None,
    in_batch: bool = False,
) -> Replay:
    """Compare `count` random samples, or all if there are no more. The same seed draws the same samples.

    With `in_batch`, not alone, but in the batch of the extraction: there a machine of the same kind, under the same
    libraries, rounds as it did, and what is allowed is the noise of float32 whatever the dtype. Alone, a teacher that
    chooses experts runs the batch as well, and chooses as there.

    Raises CacheError for what is damaged, and what `Teacher.run` raises.
    """
    reader, arrays = SampleReader(cache, teacher.config), cache.manifest.arrays
    encoder = UnitEncoder(cache.path, cache.manifest, None, teacher.device)
    noise = NOISE["float32" if in_batch else teacher.config.dtype]
    comparison = Comparison(cache.path, cache.manifest, teacher, encoder, noise)
    found, divergences = dict[str, list[SampleGap]](), list[tuple[int, np.ndarray]]()
    for done, position in enumerate(draw_positions(cache, count, seed), 1):
        together = in_batch or teacher.chooses
        members, shard = reader.batch_of(position) if together else [position], int(cache.shards[position])
        batch, number = reader.read(members), members.index(position)
        stored = dict(zip([array.path for array in arrays], cache.states(position, arrays), strict=True))
        compare = comparison.compare if in_batch else comparison.compare_alone
        compared = compare(batch, number, stored)
        for path, gap in compared.gaps.items():
            found.setdefault(path, []).append(SampleGap(batch[number].id, shard, gap))
        if compared.kl_N is not None and len(compared.kl_N):
            divergences.append((shard, compared.kl_N))
        on_sample(done)
    replayed = [Replayed(path, _layer(cache.manifest, path), samples) for path, samples in found.items()]
    return Replay(replayed, _decoded(cache, divergences))


def _layer(manifest: CacheManifest, path: str) -> int:
    return next(array.layer for array in manifest.arrays if path in (array.path, array.state_kind.name))


def _decoded(cache: Cache, divergences: Sequence[tuple[int, np.ndarray]]) -> Decoded | None:
    """A few rows make most of a mean: it may be some times the recorded one, and above that by what the worst have."""
    if not divergences:
        return None
    path = f"hidden/{cache.manifest.teacher.num_layers}"
    records = cache.records([shard for shard, _ in divergences])
    costs = [record.costs.get(path) for record in records]
    known = [(cost.kl_mean, cost.kl_p99) for cost in costs if cost is not None]
    pairs = [(mean, high) for mean, high in known if mean is not None and high is not None]
    if not pairs:
        return None
    mean, high = max(mean for mean, _ in pairs), max(high for _, high in pairs)
    kl = float(np.concatenate([kl_N for _, kl_N in divergences]).mean())
    return Decoded(path, kl, float(np.mean([mean for mean, _ in pairs])), MEANS * mean + high)
