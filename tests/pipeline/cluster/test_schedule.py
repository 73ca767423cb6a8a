"""The schedule by simulation: no Ray, a cluster that dies at random, and every promise checked at every step."""

import heapq
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.cluster.schedule import (
    UNITS_PER_WORKER,
    Action,
    Annotate,
    Annotated,
    AnnotationLost,
    AskRoom,
    Died,
    Done,
    Event,
    Finish,
    GiveUp,
    Limits,
    Loaded,
    Lost,
    NoRoom,
    Retry,
    Room,
    Run,
    Schedule,
    StartWorker,
    StopWorker,
    Trouble,
    Waited,
)

TROUBLE = Trouble("it died", "see to it", "no more")


@dataclass(frozen=True)
class Odds:
    """How likely each trouble is, each time that it may come."""

    annotator_dies: float = 0.0
    worker_dies: float = 0.0
    unit_lost: float = 0.0
    load_fails: float = 0.0
    no_room: float = 0.0


@dataclass
class Cluster:
    """Machines that take random times and die at random, and a watch over what the schedule asks of them."""

    units: int
    limits: Limits
    seed: int
    odds: Odds
    teacher_saved: bool = False
    done: list[int] = field(default_factory=list)
    done_once: set[int] = field(default_factory=set)
    trace: list[Action] = field(default_factory=list)
    retries: Counter[int | None] = field(default_factory=Counter)
    ended: Action | None = None

    def run(self) -> "Cluster":
        self.random, self.now, self.count = Random(self.seed), 0.0, 0
        self.events: list[tuple[float, int, Event]] = []
        self.workers: dict[int, list[int]] = {}
        self.loaded: set[int] = set()
        self.saving: set[int] = set()
        self.annotating: set[int] = set()
        self.annotated: set[int] = set()
        self.schedule = Schedule(range(self.units), self.limits, self.teacher_saved)
        self.perform(self.schedule.start())
        while self.ended is None:
            if self.events:
                self.now, _, event = heapq.heappop(self.events)
                if self.arrives(event):
                    self.perform(self.schedule.handle(event))
            else:
                self.perform(self.schedule.handle(Waited()))
        return self

    def later(self, seconds: float, event: Event) -> None:
        self.count += 1
        heapq.heappush(self.events, (self.now + seconds * (0.5 + self.random.random()), self.count, event))

    def arrives(self, event: Event) -> bool:
        """What the event does to the cluster; False for news of what is gone."""
        match event:
            case Loaded(worker) if worker in self.workers:
                self.loaded.add(worker)
                self.teacher_saved = self.teacher_saved or worker in self.saving
            case Annotated(unit):
                self.annotating.remove(unit)
                self.annotated.add(unit)
            case AnnotationLost(unit):
                self.annotating.remove(unit)
            case Lost(worker, unit) if worker in self.workers:
                self.annotated.remove(unit)
                self.workers[worker].remove(unit)
            case Done(worker, unit) if worker in self.workers:
                self.workers[worker].remove(unit)
                self.annotated.remove(unit)
                self.done.append(unit)
                self.done_once.add(unit)
            case Died(worker) if worker in self.workers:
                del self.workers[worker]
            case _:
                return False
        return True

    def perform(self, actions: list[Action]) -> None:
        waiting = deque(actions)
        while waiting and self.ended is None:
            action = waiting.popleft()
            self.trace.append(action)
            answer = self.obey(action)
            if answer is not None:
                waiting.extend(self.schedule.handle(answer))
        if self.ended is None:
            self.check()

    def obey(self, action: Action) -> Event | None:
        match action:
            case StartWorker(worker, saves_files):
                self.workers[worker] = []
                if saves_files:
                    self.saving.add(worker)
                fails = self.random.random() < self.odds.load_fails
                self.later(30, Died(worker, TROUBLE) if fails else Loaded(worker))
            case StopWorker(worker):
                assert worker not in self.workers, "only the dead are replaced"
            case Annotate(unit):
                assert unit not in self.annotating and unit not in self.annotated and unit not in self.done_once
                self.annotating.add(unit)
                fails = self.random.random() < self.odds.annotator_dies
                self.later(3, AnnotationLost(unit, TROUBLE) if fails else Annotated(unit))
            case Run(worker, unit):
                self.give(worker, unit)
            case AskRoom(units):
                assert len(set(units)) == len(units) and self.done_once.isdisjoint(units)
                return Room(self.random.random() >= self.odds.no_room)
            case NoRoom():
                return Waited()
            case Retry(unit, tries):
                self.retries[unit] = max(self.retries[unit], tries)
            case GiveUp() | Finish():
                self.ended = action
        return None

    def give(self, worker: int, unit: int) -> None:
        assert self.teacher_saved, "teacher/ comes before the first shard"
        assert worker in self.loaded and unit in self.annotated
        assert not any(unit in held for held in self.workers.values())
        self.workers[worker].append(unit)
        fate = self.random.random()
        if fate < self.odds.worker_dies:
            self.later(5, Died(worker, TROUBLE))
        elif fate < self.odds.worker_dies + self.odds.unit_lost:
            self.later(5, Lost(worker, unit, TROUBLE))
        else:
            self.later(10, Done(worker, unit))

    def check(self) -> None:
        """Bounds that hold whatever happens."""
        limits = self.limits
        assert len(self.workers) <= limits.workers
        assert all(len(held) <= UNITS_PER_WORKER for held in self.workers.values())
        in_flight = {*self.annotating, *self.annotated}
        assert set(self.schedule.in_flight) == in_flight
        # What waits or is annotated, and what the workers hold; only units that were lost or died come on top, and they
        # were held before.
        assert len(in_flight) <= limits.most_annotators + 2 * UNITS_PER_WORKER * limits.workers


def test_ten_thousand_units_with_workers_and_annotators_dying_at_random() -> None:
    limits = Limits(workers=16, retries=12, most_annotators=64)
    odds = Odds(annotator_dies=0.05, worker_dies=0.05, unit_lost=0.02, load_fails=0.2, no_room=0.01)
    started = time.process_time()
    cluster = Cluster(10_000, limits, 0, odds).run()
    seconds = time.process_time() - started
    assert cluster.ended == Finish()
    assert sorted(cluster.done) == list(range(10_000))
    assert sum(isinstance(action, StopWorker) for action in cluster.trace) > 400
    assert max(cluster.retries.values()) <= limits.retries
    assert seconds < 3  # about one on an idle machine


def test_the_same_events_give_the_same_actions() -> None:
    def trace(seed: int) -> list[Action]:
        limits = Limits(workers=3, retries=50, most_annotators=6)
        return Cluster(300, limits, seed, Odds(annotator_dies=0.1, worker_dies=0.1, load_fails=0.3)).run().trace

    assert trace(1) == trace(1)
    assert trace(1) != trace(2)


@given(
    units=st.integers(0, 12),
    workers=st.integers(1, 4),
    spare=st.integers(0, 5),
    retries=st.integers(0, 3),
    seed=st.integers(0, 2**32),
    dies=st.lists(st.floats(0, 0.4), min_size=5, max_size=5),
    teacher_saved=st.booleans(),
)
def test_small_runs_end_with_every_unit_done_once_or_too_many_tries(
    units: int, workers: int, spare: int, retries: int, seed: int, dies: list[float], teacher_saved: bool
) -> None:
    limits = Limits(workers, retries, workers + spare)
    cluster = Cluster(units, limits, seed, Odds(*dies), teacher_saved).run()
    assert len(set(cluster.done)) == len(cluster.done)
    assert max(cluster.retries.values(), default=0) <= retries
    if isinstance(cluster.ended, GiveUp):
        assert cluster.ended.tries == retries + 1
    else:
        assert sorted(cluster.done) == list(range(units))
        assert cluster.teacher_saved


def test_units_are_begun_in_order_and_a_slow_annotator_gets_help() -> None:
    """Annotating takes longer than running: more of it goes on at once, up to the bound."""
    limits = Limits(workers=1, retries=0, most_annotators=4)
    schedule = Schedule(range(40), limits, teacher_saved=True)
    actions = deque([*schedule.start(), *schedule.handle(Loaded(0))])
    begun: list[int] = []
    most = 0
    while actions or begun:
        if not actions:
            unit = begun.pop(0)
            actions.extend(schedule.handle(Annotated(unit)))
            continue
        match actions.popleft():
            case AskRoom():
                actions.extend(schedule.handle(Room(True)))
            case Annotate(unit):
                begun.append(unit)
                most = max(most, len(begun))
            case Run(worker, unit):
                actions.extend(schedule.handle(Done(worker, unit)))
            case Finish():
                break
    assert most == 4


def test_a_full_disk_waits_for_what_is_in_flight_and_then_ends_the_run() -> None:
    schedule = Schedule(range(3), Limits(1, 0, 1), teacher_saved=True)
    assert schedule.start() == [StartWorker(0, True), AskRoom((0,))]
    assert schedule.handle(Room(True)) == [Annotate(0)]
    assert schedule.handle(Loaded(0)) == []
    assert schedule.handle(Annotated(0)) == [Run(0, 0), AskRoom((0, 1))]
    assert schedule.handle(Room(False)) == []  # asked again when something has happened, or time has passed
    assert schedule.handle(Waited()) == [AskRoom((0, 1))]
    assert schedule.handle(Room(False)) == []
    assert schedule.handle(Done(0, 0)) == [AskRoom((1,))]
    assert schedule.handle(Room(False)) == [NoRoom((1, 2))]


def test_a_dead_workers_units_go_to_the_next_the_last_given_first() -> None:
    """If it was the first that killed it, the other is done before it kills again."""
    schedule = Schedule(range(2), Limits(1, 1, 2), teacher_saved=True)
    schedule.start()
    schedule.handle(Loaded(0))
    for unit in (0, 1):
        schedule.handle(Room(True))
        assert Run(0, unit) in schedule.handle(Annotated(unit))
    told = schedule.handle(Died(0, TROUBLE))
    assert told == [StopWorker(0), Retry(0, 1, TROUBLE), Retry(1, 1, TROUBLE), StartWorker(1, False)]
    assert schedule.handle(Done(0, 0)) == []  # late news of the dead
    assert schedule.handle(Loaded(1)) == [Run(1, 1), Run(1, 0)]
    assert schedule.handle(Done(1, 1)) == []
    assert schedule.handle(Died(1, TROUBLE))[1] == GiveUp(0, 2, TROUBLE)


def test_a_load_that_succeeds_forgives_those_that_failed_before() -> None:
    schedule = Schedule(range(1), Limits(1, 1, 1), teacher_saved=True)
    schedule.start()
    for worker in range(0, 10, 2):
        assert Retry(None, 1, TROUBLE) in schedule.handle(Died(worker, TROUBLE))
        schedule.handle(Loaded(worker + 1))
        assert schedule.handle(Died(worker + 1, TROUBLE)) == [StopWorker(worker + 1), StartWorker(worker + 2, False)]
    schedule.handle(Died(10, TROUBLE))
    assert GiveUp(None, 2, TROUBLE) in schedule.handle(Died(11, TROUBLE))


@pytest.mark.parametrize("teacher_saved", [False, True])
def test_without_units_only_the_teachers_files_are_made(teacher_saved: bool) -> None:
    schedule = Schedule([], Limits(4, 0, 4), teacher_saved)
    assert schedule.start() == [StartWorker(0, True), *([Finish()] if teacher_saved else [])]
    if not teacher_saved:
        assert schedule.handle(Loaded(0)) == [Finish()]


def test_what_is_lost_is_told_with_its_unit_and_its_trouble() -> None:
    schedule = Schedule(range(3), Limits(1, 1, 1), teacher_saved=True)
    schedule.start()
    schedule.handle(Loaded(0))
    assert schedule.handle(Room(True)) == [Annotate(0)]
    assert schedule.handle(AnnotationLost(0, TROUBLE)) == [Retry(0, 1, TROUBLE), Annotate(0)]
    assert schedule.handle(AnnotationLost(2, TROUBLE)) == []  # it was never begun
    assert Run(0, 0) in schedule.handle(Annotated(0))
    assert schedule.handle(Annotated(0)) == []
    other = Trouble("its machine went", "", "gone")
    assert schedule.handle(Lost(0, 0, other))[:2] == [GiveUp(0, 2, other), Annotate(0)]
    assert schedule.handle(Lost(0, 0, other)) == []


def test_a_worker_that_still_holds_a_unit_does_not_starve() -> None:
    schedule = Schedule(range(9), Limits(1, 0, 3), teacher_saved=True)
    schedule.start()
    schedule.handle(Loaded(0))
    for unit in (0, 1):
        schedule.handle(Room(True))
        schedule.handle(Annotated(unit))
    assert schedule.handle(Room(True)) == [Annotate(2)]
    assert schedule.handle(Done(0, 0)) == []
    assert schedule.handle(Done(0, 1)) == [AskRoom((2, 3))]  # now it does, and a second annotation may begin
    assert schedule.handle(Room(True)) == [Annotate(3)]


@pytest.mark.parametrize(("workers", "waiting"), [(1, 3), (3, 9)])
def test_no_more_units_wait_than_are_annotated_at_once_and_two_for_each_worker(workers: int, waiting: int) -> None:
    """While no worker has loaded its teacher."""
    schedule = Schedule(range(40), Limits(workers, 0, workers), teacher_saved=True)
    actions, begun, annotated = schedule.start(), list[int](), 0
    while annotated < len(begun) or any(isinstance(action, AskRoom) for action in actions):
        if any(isinstance(action, AskRoom) for action in actions):
            actions = schedule.handle(Room(True))
        else:
            actions = schedule.handle(Annotated(begun[annotated]))
            annotated += 1
        begun += [action.unit for action in actions if isinstance(action, Annotate)]
    assert begun == list(range(waiting)) and set(schedule.in_flight) == set(begun)
