"""Which worker does which unit, and when: a state machine that knows no Ray, no disk and no clock.

Events go in, actions come out. Units wait to be annotated, are annotated, wait for a worker, and are run by it. A
worker holds up to two, one in the forward pass and one being written, and few annotated ones wait: memory does not grow
with the corpus. What was lost or died is tried again, a bounded number of times. The same events give the same actions.
"""

from collections import Counter, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

UNITS_PER_WORKER = 2  # one in the forward pass, one being written


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why something must be done again: what happened, what the user can do about it, and the words of the cluster."""

    happened: str
    way_out: str
    said: str


# --- Events -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Annotated:
    """A unit is ready for a worker."""

    unit: int


@dataclass(frozen=True, slots=True)
class Loaded:
    """A worker has its teacher, and has written teacher/ if it was told to."""

    worker: int


@dataclass(frozen=True, slots=True)
class Done:
    """A worker has committed a unit."""

    worker: int
    unit: int


@dataclass(frozen=True, slots=True)
class AnnotationLost:
    """An annotation failed with its machine."""

    unit: int
    trouble: Trouble


@dataclass(frozen=True, slots=True)
class Lost:
    """An annotated unit that was given to a worker went with its machine. The worker lives."""

    worker: int
    unit: int
    trouble: Trouble


@dataclass(frozen=True, slots=True)
class Died:
    """A worker is gone with all that it held, or never came to be."""

    worker: int
    trouble: Trouble


@dataclass(frozen=True, slots=True)
class Room:
    """The answer to AskRoom."""

    enough: bool


@dataclass(frozen=True, slots=True)
class Waited:
    """Time has passed, and there may be room now."""


Event = Annotated | AnnotationLost | Loaded | Done | Lost | Died | Room | Waited


# --- Actions ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StartWorker:
    """Start a worker and have it load its teacher."""

    worker: int
    saves_files: bool  # whether it writes teacher/, too


@dataclass(frozen=True, slots=True)
class StopWorker:
    """Make sure that a worker is gone."""

    worker: int


@dataclass(frozen=True, slots=True)
class Annotate:
    """Read a unit, if that has not been done yet, and annotate it."""

    unit: int


@dataclass(frozen=True, slots=True)
class Run:
    """Give an annotated unit to a loaded worker."""

    worker: int
    unit: int


@dataclass(frozen=True, slots=True)
class AskRoom:
    """Ask whether the disk has room for these units, none of which is written yet. Answer with Room."""

    units: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Retry:
    """Say that a unit, or loading the teacher (None), failed and is tried again."""

    unit: int | None
    tries: int
    trouble: Trouble


@dataclass(frozen=True, slots=True)
class GiveUp:
    """End the run: a unit, or loading the teacher (None), has failed too often."""

    unit: int | None
    tries: int
    trouble: Trouble


@dataclass(frozen=True, slots=True)
class NoRoom:
    """End the run: nothing is being written, and the disk has no room for the next of these units."""

    units: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Finish:
    """Every unit is done, and teacher/ is written."""


Action = StartWorker | StopWorker | Annotate | Run | AskRoom | Retry | GiveUp | NoRoom | Finish


# --- The machine ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Limits:
    """How much may go on at once. Annotations begin at one for each worker, and may become `most_annotators`."""

    workers: int
    retries: int
    most_annotators: int


@dataclass
class _Worker:
    saves_files: bool
    loaded: bool = False
    units: list[int] = field(default_factory=list)


class Schedule:
    """The state of a run over `units`. Call `start` once, then `handle` for every event."""

    def __init__(self, units: Iterable[int], limits: Limits, teacher_saved: bool):
        self._limits = limits
        self._missing = deque(units)
        self._annotating: dict[int, None] = {}  # a set that keeps its order
        self._ready: deque[int] = deque()
        self._workers: dict[int, _Worker] = {}
        self._started = 0
        self._teacher_saved = teacher_saved
        # Each annotating process takes some 0.4 GB and 5 seconds to start: one for each worker, until workers starve.
        self._annotators = limits.workers
        self._asked = self._full = False
        self._tries: Counter[int | None] = Counter()

    @property
    def in_flight(self) -> tuple[int, ...]:
        """Units that have been begun and are not done."""
        held = (unit for worker in self._workers.values() for unit in worker.units)
        return (*self._annotating, *self._ready, *held)

    def start(self) -> list[Action]:
        """The first actions."""
        count = max(1, min(self._limits.workers, len(self._missing)))
        return [*(self._start_worker(index == 0) for index in range(count)), *self._advance()]

    def handle(self, event: Event) -> list[Action]:
        """Returns what follows from one event. Late news of a worker that died before is ignored."""
        self._full = False  # whatever happened may have made room
        return [*self._note(event), *self._advance()]

    def _note(self, event: Event) -> Iterator[Action]:
        match event:
            case Annotated(unit) if unit in self._annotating:
                del self._annotating[unit]
                self._ready.append(unit)
            case Loaded(number) if number in self._workers:
                self._note_loaded(self._workers[number])
            case AnnotationLost(unit, trouble) if unit in self._annotating:
                yield self._count_try(unit, trouble)
                yield Annotate(unit)
            case Done(number, unit) if self._holds(number, unit):
                self._note_done(self._workers[number], unit)
            case Lost(number, unit, trouble) if self._holds(number, unit):
                self._workers[number].units.remove(unit)
                self._annotating[unit] = None
                yield self._count_try(unit, trouble)
                yield Annotate(unit)
            case Died(number, trouble) if number in self._workers:
                yield from self._replace(number, trouble)
            case Room(enough) if self._asked:
                yield from self._note_room(enough)

    def _note_loaded(self, worker: _Worker) -> None:
        worker.loaded = True
        self._teacher_saved = self._teacher_saved or worker.saves_files
        del self._tries[None]  # it can be loaded: only failures in a row count

    def _note_done(self, worker: _Worker, unit: int) -> None:
        worker.units.remove(unit)
        if not worker.units and not self._ready:  # it starves
            self._annotators = min(self._annotators + 1, self._limits.most_annotators)

    def _note_room(self, enough: bool) -> Iterator[Action]:
        self._asked, self._full = False, not enough
        if enough:
            unit = self._missing.popleft()
            self._annotating[unit] = None
            yield Annotate(unit)
        elif not self.in_flight:
            yield NoRoom(tuple(self._missing))

    def _holds(self, number: int, unit: int) -> bool:
        return number in self._workers and unit in self._workers[number].units

    def _replace(self, number: int, trouble: Trouble) -> Iterator[Action]:
        """A fresh worker in the place of a dead one. Its units wait again; one that it committed will be found."""
        dead = self._workers.pop(number)
        yield StopWorker(number)
        for unit in dead.units:
            yield self._count_try(unit, trouble)
            self._ready.appendleft(unit)
        if not dead.loaded:
            yield self._count_try(None, trouble)
        yield self._start_worker(dead.saves_files and not self._teacher_saved)

    def _start_worker(self, saves_files: bool) -> StartWorker:
        number, self._started = self._started, self._started + 1
        self._workers[number] = _Worker(saves_files)
        return StartWorker(number, saves_files)

    def _count_try(self, unit: int | None, trouble: Trouble) -> Action:
        self._tries[unit] += 1
        kind = GiveUp if self._tries[unit] > self._limits.retries else Retry
        return kind(unit, self._tries[unit], trouble)

    def _advance(self) -> Iterator[Action]:
        """Hand out what is ready, and ask for room for one more."""
        yield from self._dispatch()
        if self._may_annotate():
            self._asked = True
            yield AskRoom((*self.in_flight, self._missing[0]))
        elif self._teacher_saved and not self._missing and not self.in_flight:
            yield Finish()

    def _dispatch(self) -> Iterator[Action]:
        """No shard before teacher/ is there, and none to a worker that is still loading."""
        while self._ready and self._teacher_saved:
            free = [
                (len(worker.units), number)
                for number, worker in self._workers.items()
                if worker.loaded and len(worker.units) < UNITS_PER_WORKER
            ]
            if not free:
                return
            _, number = min(free)
            unit = self._ready.popleft()
            self._workers[number].units.append(unit)
            yield Run(number, unit)

    def _may_annotate(self) -> bool:
        """As many at a time as `_annotators`, and no more waiting than the workers can take at once."""
        most = self._annotators + UNITS_PER_WORKER * self._limits.workers
        waiting = len(self._annotating) + len(self._ready)
        return bool(self._missing) and not (
            self._asked or self._full or len(self._annotating) >= self._annotators or waiting >= most
        )
