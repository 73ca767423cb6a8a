"""Ray's side of a schedule: does what it says with tasks and actors, and tells what became of it as events.

Ray names deaths by their cause: not every one is a RayActorError. One by Ray's memory monitor is OutOfMemoryError.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NoReturn, cast

import ray
from ray.exceptions import (
    ActorUnschedulableError,
    ObjectLostError,
    OutOfMemoryError,
    RayError,
    RayTaskError,
    RuntimeEnvSetupError,
    TaskUnschedulableError,
)

from pipeline.cluster.annotating import annotate
from pipeline.cluster.schedule import (
    UNITS_PER_WORKER,
    Annotated,
    AnnotationLost,
    Died,
    Done,
    Event,
    Loaded,
    Lost,
    Trouble,
)
from pipeline.corpus.sample import Sample
from pipeline.work.annotate import AnnotatedUnit
from pipeline.work.job import Job
from pipeline.work.worker import TeacherWorker, UnitReport
from schemas.configs.extraction import WorkersConfig
from schemas.errors import StillroomError

STOP_SECONDS = 5.0
DYING_SECONDS = 0.5  # Ray tells of an end that it has asked for; until it comes, a worker makes folders anew


@ray.remote(max_restarts=0, max_task_retries=0, concurrency_groups={"units": UNITS_PER_WORKER, "progress": 1})
class TeacherActor:
    """A TeacherWorker behind Ray, which can be asked for its progress while both its threads are busy."""

    def __init__(self, job: Job):
        self._worker = TeacherWorker(job)

    @ray.method(concurrency_group="units")
    def prepare(self, save_files: bool, calibration: Sequence[Sample]) -> None:
        """Load the teacher, and if asked write what a cache keeps of it. Raises what `TeacherWorker.prepare` does."""
        self._worker.prepare(save_files, calibration)

    @ray.method(concurrency_group="units")
    def run(self, unit: AnnotatedUnit) -> UnitReport:
        """Run the teacher over one unit and publish its shard. Raises what `TeacherWorker.run` does."""
        return self._worker.run(unit)

    @ray.method(concurrency_group="progress")
    def progress(self) -> dict[int, tuple[int, int]]:
        """Samples and tokens done of each unit at work. Answers while both other threads are busy."""
        return self._worker.progress()


@dataclass(frozen=True, slots=True)
class _Loading:
    worker: int


@dataclass(frozen=True, slots=True)
class _Annotating:
    unit: int


@dataclass(frozen=True, slots=True)
class _Running:
    worker: int
    unit: int


_Call = _Loading | _Annotating | _Running


class _Failed(Exception):
    """A call failed for a reason that another try may mend."""

    def __init__(self, trouble: Trouble, died: bool):
        super().__init__(trouble.said)
        self.trouble, self.died = trouble, died  # died: the worker is gone, not only what it was given


@dataclass
class _Unit:
    samples: list[Sample]
    annotated: Any = None  # reference to an AnnotatedUnit


@dataclass
class _Actor:
    handle: Any
    poll: Any = None  # reference to an answer that is not there yet
    batches: dict[int, tuple[int, int]] = field(default_factory=dict)


class Actors:
    """The teacher actors and annotation tasks of one run. `reports` holds the report of every unit done."""

    def __init__(
        self,
        job: Job,
        workers: WorkersConfig,
        runtime_env: Mapping[str, Any],
        calibration: Sequence[Sample] = (),
    ):
        """`calibration` are the samples for the actor that saves files."""
        self.reports: dict[int, UnitReport] = {}
        # The job is small. It is sent with every call rather than put into Ray's object store: a driver that holds
        # something there is ended without a word if the store dies.
        self._job, self._workers, self._runtime_env = job, workers, dict(runtime_env)
        self._calibration = tuple(calibration)
        self._calls: dict[Any, _Call] = {}
        self._units: dict[int, _Unit] = {}
        self._actors: dict[int, _Actor] = {}

    def start(self, worker: int, saves_files: bool) -> None:
        """Start an actor and have it load its teacher."""
        options = {"num_cpus": self._workers.cpus, "num_gpus": self._workers.gpus, "runtime_env": self._runtime_env}
        handle = cast(Any, TeacherActor).options(**options).remote(self._job)
        self._actors[worker] = _Actor(handle)
        self._calls[handle.prepare.remote(saves_files, self._calibration if saves_files else ())] = _Loading(worker)

    def stop(self, worker: int) -> None:
        """End an actor, dead or alive, and forget what it was asked."""
        ray.kill(self._actors.pop(worker).handle)
        its = [r for r, call in self._calls.items() if isinstance(call, _Loading | _Running) and call.worker == worker]
        for reference in its:
            del self._calls[reference]

    def stop_all(self) -> None:
        """End all actors, and wait until they write no more, but not for long: their machines may be gone."""
        held = [r for r, call in self._calls.items() if not isinstance(call, _Annotating)]
        for worker in list(self._actors):
            self.stop(worker)
        if held:
            ray.wait(held, num_returns=len(held), timeout=STOP_SECONDS)
            time.sleep(DYING_SECONDS)

    def knows(self, unit: int) -> bool:
        """Returns whether this unit's samples have been given already."""
        return unit in self._units

    def give(self, unit: int, samples: list[Sample]) -> None:
        """Keep the samples of a unit until it is done."""
        self._units[unit] = _Unit(samples)

    def annotate(self, unit: int) -> None:
        """Start annotating a unit whose samples were given."""
        options = {"num_cpus": self._workers.annotator_cpus, "runtime_env": self._runtime_env}
        held = self._units[unit]
        finished, held.annotated = annotate.options(**options).remote(self._job, unit, held.samples)
        self._calls[finished] = _Annotating(unit)

    def run(self, worker: int, unit: int) -> None:
        """Give an annotated unit to an actor."""
        reference = self._actors[worker].handle.run.remote(self._units[unit].annotated)
        self._calls[reference] = _Running(worker, unit)

    def wait(self, seconds: float) -> list[Event]:
        """Returns what has happened, after `seconds` at most. A StillroomError of a worker is raised as itself."""
        ready, _ = ray.wait(list(self._calls), timeout=seconds)
        return [self._settle(reference, self._calls.pop(reference)) for reference in ready]

    def batches(self) -> tuple[int, int]:
        """Samples and tokens that went through teachers in units that are not done. Never waits for an answer."""
        for actor in self._actors.values():
            _poll(actor)
        at_work = {call.unit for call in self._calls.values() if isinstance(call, _Running)}
        found = [done for a in self._actors.values() for unit, done in a.batches.items() if unit in at_work]
        return sum(samples for samples, _ in found), sum(tokens for _, tokens in found)

    def _settle(self, reference: Any, call: _Call) -> Event:
        try:
            result = _get(reference)
        except _Failed as failure:
            match call:
                case _Running(worker, unit) if not failure.died:
                    return Lost(worker, unit, failure.trouble)
                case _Running(worker, _) | _Loading(worker):
                    return Died(worker, failure.trouble)
                case _Annotating(unit):
                    return AnnotationLost(unit, failure.trouble)
        match call:
            case _Loading(worker):
                return Loaded(worker)
            case _Annotating(unit):
                return Annotated(unit)
            case _Running(worker, unit):
                self.reports[unit] = result
                del self._units[unit]
                return Done(worker, unit)


def _poll(actor: _Actor) -> None:
    """Ask an actor for its progress without ever waiting for the answer."""
    if actor.poll is None:
        actor.poll = actor.handle.progress.remote()
    elif ray.wait([actor.poll], timeout=0)[0]:
        answer, actor.poll = actor.poll, None
        try:
            actor.batches = ray.get(answer)
        except RayError:
            return  # it died, in whatever way; its units tell so, and they are what counts


def _get(reference: Any) -> Any:
    """The result of a finished call. A StillroomError of a worker is raised as itself, what another try may mend as
    _Failed, and a fault of the program's own as Ray's RayTaskError."""
    try:
        return ray.get(reference)
    except RayTaskError as error:
        _raise_cause(error)
    except ObjectLostError as error:
        raise _Failed(_lost(error), died=False) from error
    except RayError as error:
        raise _Failed(_died(error), died=True) from error


def _raise_cause(error: RayTaskError) -> NoReturn:
    if isinstance(error.cause, StillroomError):
        raise error.cause from None
    if isinstance(error.cause, RayError):
        raise _Failed(_lost(error.cause), died=False) from error
    raise error


SEE_TO_IT = "see to the cluster, and run the same command again"
USE_LESS = "use fewer workers, or lower batching.batch_tokens or batching.unit_tokens and name a new output"


def _lost(error: RayError) -> Trouble:
    """The trouble of a call whose input went with its machine."""
    return Trouble("what its worker was given was lost", SEE_TO_IT, _one_line(error))


def _died(error: RayError) -> Trouble:
    """Returns what happened to a worker, and what to do if it happens again and again."""
    match error:
        case OutOfMemoryError():
            return Trouble("memory ran out and Ray ended its worker", USE_LESS, _one_line(error))
        case RuntimeEnvSetupError() | ActorUnschedulableError() | TaskUnschedulableError():
            return Trouble("Ray could not start its worker", SEE_TO_IT, _one_line(error))
        case _:
            return Trouble("its worker died", f"most often memory runs out: {USE_LESS}", _one_line(error))


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
