"""Where the time of one extraction went: how fast, how much of it padding, what was slow, and what was tried again."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from pipeline.work.worker import UnitReport

SLOWEST = 3  # units that are named


@dataclass
class WorkerTime:
    """From the beginning of a worker's first forward pass to the end of its last, in seconds since 1970."""

    began: float
    ended: float
    busy: float = 0.0  # seconds of them in forward passes
    units: int = 0


@dataclass
class Tally:
    """What has happened so far. To add a unit costs the same however many there are."""

    workers: dict[int, int] = field(default_factory=dict)  # which made each unit
    times: dict[int, WorkerTime] = field(default_factory=dict)  # by worker
    tokens: int = 0
    positions: int = 0  # of all batches
    tries: Counter[int] = field(default_factory=Counter)  # by unit, those that failed
    retries: Counter[str] = field(default_factory=Counter)  # by what had happened

    def add(self, unit: int, worker: int, report: UnitReport) -> None:
        """A worker has made a unit."""
        self.workers[unit] = worker
        self.tokens, self.positions = self.tokens + report.tokens, self.positions + report.positions
        if report.began:  # otherwise its shard was there already
            ended = report.began + report.forward_seconds
            time = self.times.setdefault(worker, WorkerTime(report.began, ended))
            time.began, time.ended = min(time.began, report.began), max(time.ended, ended)
            time.busy, time.units = time.busy + report.forward_seconds, time.units + 1

    @property
    def padding(self) -> float:
        """Of the positions that went through the teacher, the share that is no token of a sample."""
        return padding_share(self.tokens, self.positions)

    @property
    def idle(self) -> float | None:
        """The share of a worker's time, from its first batch to its last, in which no forward pass ran.

        None before any worker has made two units: nothing lies between them.
        """
        times = [time for time in self.times.values() if time.units > 1]
        span = sum(time.ended - time.began for time in times)
        return max(0.0, 1 - sum(time.busy for time in times) / span) if span > 0 else None


@dataclass(frozen=True)
class SlowUnit:
    """A unit, and how fast the teacher ran over it."""

    unit: int
    worker: int
    tokens: int
    seconds: float

    @property
    def rate(self) -> float:
        """Tokens per second."""
        return self.tokens / self.seconds


@dataclass(frozen=True)
class Figures:
    """Those of one call, over the units that it made."""

    workers: int  # that made any
    padding: float  # share of the positions of all batches
    forward_seconds: float  # of all workers together, as the next
    write_seconds: float  # encoding, hashing and writing, beside the forward passes
    idle: float | None  # share of a worker's time between two forward passes
    slowest: tuple[SlowUnit, ...]  # by tokens per second, the slowest first
    retries: Mapping[str, int]  # by what had happened
    halved: int  # batches for which memory ran out


def make_figures(reports: Mapping[int, UnitReport], tally: Tally) -> Figures:
    """The figures of what `reports` tell."""
    made = reports.values()
    return Figures(
        workers=len(set(tally.workers.values())),
        padding=tally.padding,
        forward_seconds=sum(report.forward_seconds for report in made),
        write_seconds=sum(report.write_seconds for report in made),
        idle=tally.idle,
        slowest=_slowest(reports, tally),
        retries=dict(tally.retries),
        halved=sum(report.halved for report in made),
    )


def padding_share(tokens: int, positions: int) -> float:
    """Of the positions of some batches, the share that is no token."""
    return 1 - tokens / positions if positions else 0.0


def _slowest(reports: Mapping[int, UnitReport], tally: Tally) -> tuple[SlowUnit, ...]:
    units = [
        SlowUnit(unit, tally.workers.get(unit, 0), report.tokens, report.forward_seconds)
        for unit, report in reports.items()
        if report.forward_seconds > 0 and report.tokens
    ]
    return tuple(sorted(units, key=lambda unit: (unit.rate, unit.unit))[:SLOWEST])
