"""Extraction: the teacher is run once over a corpus, on one machine or a Ray cluster, into a cache.

The only file that imports Ray. Units flow: read by the driver, annotated by tasks, run and written by teacher actors.
At most two are with an actor, one in the forward pass and one being written, and a few annotated ones wait: memory does
not grow with the corpus. A worker that dies costs the units it held, which are tried again; a driver that dies costs
those in flight, and the same call goes on from there. Starting Ray takes some 6 seconds and 0.5 GB; a finished cache is
recognised without it.
"""

import logging
import os
import secrets
import signal
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
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

from pipeline.cluster.placement import require_places
from pipeline.cluster.progress import ExtractionProgress
from pipeline.corpus.plan import Unit
from pipeline.corpus.sample import Sample
from pipeline.output.disk import has_room, require_room, teacher_bytes
from pipeline.output.result import ExtractionResult, make_result, shard_bytes
from pipeline.output.resume import Output, find_complete, open_output
from pipeline.request.request import Request, make_request
from pipeline.work.worker import AnnotatedUnit, Job, TeacherWorker, UnitReport, annotate_unit, make_job
from schemas.cache.index import write_index
from schemas.cache.manifest import TEACHER
from schemas.configs.extraction import ExtractionConfig, WorkersConfig
from schemas.errors import ConfigError, ResourceError, StillroomError

UNITS_AN_ACTOR = 2  # one in the forward pass, one being written
MOST_ANNOTATORS = 16  # an actor, so that a slow annotator does not starve a GPU
POLL_SECONDS = 0.5
OBJECT_STORE_BYTES = 512 * 2**20  # of a local Ray: texts and tokens pass through it, never states
JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"  # Ray sets it where a submitted job runs
PROJECT = Path(__file__).resolve().parents[2]


def extract(config: ExtractionConfig) -> ExtractionResult:
    """Make the cache that `config` describes, or what is missing of it.

    Raises ConfigError, CorpusError, ModelError, TokenizerError, AnnotatorError: the request cannot be. CacheError: the
    output is something else's, the differing fields named. ResourceError: Ray, processors, GPUs, memory or disk.
    """
    started = time.monotonic()
    if JOB in os.environ and not config.output.expanduser().is_absolute():
        raise ConfigError(
            f"output: {config.output} is relative, and a job's working directory is a copy that Ray deletes; "
            "give an absolute path on storage that all machines share"
        )
    cache = config.output.expanduser().absolute()
    request = make_request(config)
    plan = request.plan
    done = find_complete(cache, request.manifest)
    if done is not None:
        return make_result(request, cache, done, {}, started)
    with ExtractionProgress(plan.samples) as progress, open_output(cache, request.manifest, progress.say) as output:
        missing = [unit for unit in plan.units if unit.number not in output.done]
        reports: dict[int, UnitReport] = {}
        if missing or not (cache / TEACHER).is_dir():
            beside = 0 if (cache / TEACHER).is_dir() else teacher_bytes(request.manifest.teacher)
            require_room(cache, plan, request.manifest.arrays, missing, beside)
            with cluster(config.workers), _terminable():
                reports = _Run(request, output, missing, progress).run()
        write_index(cache, request.manifest)
        return make_result(request, cache, output.done | {n: r.record for n, r in reports.items()}, reports, started)


# --- Units over a cluster ---------------------------------------------------------------------------------------------


@ray.remote(num_returns=2, max_retries=0)
def _annotate(job: Job, number: int, samples: list[Sample]) -> tuple[int, AnnotatedUnit]:
    """The number comes back apart from the unit, so that the driver learns of the end without fetching the unit."""
    return number, annotate_unit(job, number, samples)


@ray.remote(max_restarts=0, max_task_retries=0, concurrency_groups={"units": UNITS_AN_ACTOR, "progress": 1})
class TeacherActor:
    """A TeacherWorker behind Ray, which can be asked for its progress while both its threads are busy."""

    def __init__(self, job: Job):
        self._worker = TeacherWorker(job)

    @ray.method(concurrency_group="units")
    def prepare(self, save_files: bool) -> None:
        self._worker.prepare(save_files)

    @ray.method(concurrency_group="units")
    def run(self, unit: AnnotatedUnit) -> UnitReport:
        return self._worker.run(unit)

    @ray.method(concurrency_group="progress")
    def progress(self) -> dict[int, tuple[int, int]]:
        return self._worker.progress()


class _Lost(Exception):
    """A call failed for what it was given, which went with its machine: worth another try. The worker lives."""


class _Died(Exception):
    """A worker is gone, or never came to be; Ray's own error is the cause. Worth another try, by another worker."""


@dataclass
class _Work:
    """A unit in flight."""

    unit: Unit
    samples: list[Sample]
    annotated: Any = None  # reference to an AnnotatedUnit


@dataclass(eq=False)
class _Slot:
    """A teacher actor and what it has in hand."""

    actor: Any
    loading: Any  # reference; None once the teacher is loaded
    saves_files: bool
    work: dict[Any, _Work] = field(default_factory=dict)  # by reference to its UnitReport
    poll: Any = None
    batches: dict[int, tuple[int, int]] = field(default_factory=dict)


class _Run:
    """One run over the missing units."""

    def __init__(self, request: Request, output: Output, missing: list[Unit], progress: ExtractionProgress):
        self._request, self._output, self._progress = request, output, progress
        self._workers = request.config.workers
        self._missing = deque(missing)
        self._units = request.plan.read_units(request.corpus, skip=output.done.keys())
        self._job = ray.put(make_job(request, output.cache))
        # Each annotating process costs some 0.4 GB and 5 seconds to start, so it is one an actor until actors starve.
        self._annotators, self._most_annotators = self._workers.count, _most_annotators(self._workers)
        self._annotating: dict[Any, _Work] = {}
        self._ready: deque[_Work] = deque()
        self._slots: list[_Slot] = []
        self._teacher_saved = (output.cache / TEACHER).is_dir()
        self._tries: Counter[str] = Counter()
        self._reports: dict[int, UnitReport] = {}

    def run(self) -> dict[int, UnitReport]:
        """The reports by unit. Whatever goes wrong, the actors are gone afterwards."""
        actors = max(1, min(self._workers.count, len(self._missing)))
        samples = sum(shard.samples + shard.overlong for shard in self._output.done.values())
        self._progress.start(samples)
        self._output.log("start", units=len(self._missing), actors=actors)
        try:
            self._slots = [self._start_actor(saves_files=index == 0) for index in range(actors)]
            while True:
                self._annotate_some()
                self._dispatch()
                in_hand = self._in_hand()
                if self._teacher_saved and not (self._annotating or self._ready or in_hand):
                    return self._reports
                loading = [slot.loading for slot in self._slots if slot.loading is not None]
                waiting = [*self._annotating, *in_hand, *loading]
                for reference in ray.wait(waiting, timeout=POLL_SECONDS)[0]:
                    self._settle(reference)
                self._show_progress()
        finally:
            for slot in self._slots:
                ray.kill(slot.actor)

    def _in_hand(self) -> dict[Any, _Work]:
        return {reference: work for slot in self._slots for reference, work in slot.work.items()}

    def _start_actor(self, saves_files: bool) -> _Slot:
        options = {"num_cpus": self._workers.cpus, "num_gpus": self._workers.gpus}
        actor = cast(Any, TeacherActor).options(**options).remote(self._job)
        return _Slot(actor, actor.prepare.remote(saves_files), saves_files)

    def _annotate_some(self) -> None:
        """As many at a time as `_annotators`, and no more waiting than the actors can take at once."""
        cache, plan, arrays = self._output.cache, self._request.plan, self._request.manifest.arrays
        most = self._annotators + UNITS_AN_ACTOR * self._workers.count
        while (
            self._missing
            and len(self._annotating) < self._annotators
            and len(self._annotating) + len(self._ready) < most
        ):
            flying = [work.unit for work in (*self._annotating.values(), *self._ready, *self._in_hand().values())]
            if not has_room(cache, plan, arrays, [*flying, self._missing[0]]):
                if not flying:
                    require_room(cache, plan, arrays, list(self._missing))
                return
            self._missing.popleft()
            self._annotate(_Work(*next(self._units)))

    def _annotate(self, work: _Work) -> None:
        task = _annotate.options(num_cpus=self._workers.annotator_cpus)
        finished, work.annotated = task.remote(self._job, work.unit.number, work.samples)
        self._annotating[finished] = work

    def _dispatch(self) -> None:
        """No shard before teacher/ is there, and none to an actor that is still loading."""
        while self._ready and self._teacher_saved:
            free = [slot for slot in self._slots if slot.loading is None and len(slot.work) < UNITS_AN_ACTOR]
            if not free:
                return
            slot, work = min(free, key=lambda slot: len(slot.work)), self._ready.popleft()
            slot.work[slot.actor.run.remote(work.annotated)] = work

    def _settle(self, reference: Any) -> None:
        if reference in self._annotating:
            work = self._annotating.pop(reference)
            try:
                _get(reference)
                self._ready.append(work)
            except (_Lost, _Died) as error:
                self._count_try(f"unit {work.unit.number}", error)
                self._annotate(work)
            return
        for slot in self._slots:
            if reference is slot.loading or reference in slot.work:
                self._settle_slot(slot, reference)
                return

    def _settle_slot(self, slot: _Slot, reference: Any) -> None:
        try:
            report = _get(reference)
        except (_Lost, _Died) as error:
            if isinstance(error, _Died) or reference is slot.loading:
                self._replace(slot, error)
            else:  # the annotated unit went with its machine; the actor lives
                work = slot.work.pop(reference)
                self._count_try(f"unit {work.unit.number}", error)
                self._annotate(work)
            return
        if reference is slot.loading:
            slot.loading = None
            self._teacher_saved = self._teacher_saved or slot.saves_files
            return
        unit = slot.work.pop(reference).unit.number
        slot.batches.pop(unit, None)
        if not slot.work and not self._ready:
            self._annotators = min(self._annotators + 1, self._most_annotators)
        self._reports[unit] = report
        self._output.log(
            "unit",
            unit=unit,
            samples=report.record.samples,
            tokens=report.tokens,
            bytes=shard_bytes(report.record),
            forward_seconds=round(report.forward_seconds, 3),
            write_seconds=round(report.write_seconds, 3),
        )

    def _replace(self, slot: _Slot, error: Exception) -> None:
        """A fresh actor in the place of a dead one, and its units in the queue again; a committed one will be found."""
        ray.kill(slot.actor)
        for work in slot.work.values():
            self._count_try(f"unit {work.unit.number}", error)
            self._ready.appendleft(work)
        if slot.loading is not None:
            self._count_try("loading the teacher", error)
        self._slots[self._slots.index(slot)] = self._start_actor(slot.saves_files)

    def _count_try(self, what: str, error: Exception) -> None:
        self._tries[what] += 1
        reason = " ".join(str(error).split())
        happened, way_out = _diagnose(error)
        self._output.log("lost", what=what, reason=reason)
        if self._tries[what] > self._workers.retries:
            raise ResourceError(f"{what}: {happened} {self._tries[what]} times; {way_out}. Ray says: {reason[:500]}")
        self._progress.say(f"{what}: {happened}; trying again ({self._tries[what]} of {self._workers.retries})")

    def _show_progress(self) -> None:
        records = [report.record for report in self._reports.values()]
        samples = sum(record.samples + record.overlong for record in records)
        tokens = sum(report.tokens for report in self._reports.values())
        for slot in self._slots:
            _poll(slot)
            samples += sum(done[0] for done in slot.batches.values())
            tokens += sum(done[1] for done in slot.batches.values())
        self._progress.update(samples, tokens, sum(map(shard_bytes, records)))


def _poll(slot: _Slot) -> None:
    """Ask an actor for its progress without ever waiting for the answer."""
    if slot.poll is None:
        slot.poll = slot.actor.progress.remote()
    elif ray.wait([slot.poll], timeout=0)[0]:
        answer, slot.poll = slot.poll, None
        try:
            found = ray.get(answer)
        except RayError:
            return  # it died, in whatever way; its units tell so, and they are what counts
        at_work = {work.unit.number for work in slot.work.values()}
        slot.batches = {unit: done for unit, done in found.items() if unit in at_work}


def _get(reference: Any) -> Any:
    """The result of a finished call. A StillroomError of a worker is raised as itself, what another try may mend as
    _Lost or _Died, and a fault of the program's own as Ray's RayTaskError.

    Ray names deaths by their cause: not every one is a RayActorError. One by Ray's memory monitor is OutOfMemoryError.
    """
    try:
        return ray.get(reference)
    except RayTaskError as error:
        _reraise(error)
    except ObjectLostError as error:
        raise _Lost(str(error)) from error
    except RayError as error:
        raise _Died(str(error)) from error


def _reraise(error: RayTaskError) -> NoReturn:
    if isinstance(error.cause, StillroomError):
        raise error.cause from None
    if isinstance(error.cause, RayError):
        raise _Lost(str(error.cause)) from error
    raise error


def _diagnose(error: Exception) -> tuple[str, str]:
    """What happened to a worker, and what to do if it happens again and again."""
    again = "see to the cluster, and run the same command again"
    less = "use fewer workers, or lower batching.batch_tokens or batching.unit_tokens and name a new output"
    if isinstance(error, _Lost):
        return "what its worker was given was lost", again
    match error.__cause__:
        case OutOfMemoryError():
            return "memory ran out and Ray ended its worker", less
        case RuntimeEnvSetupError() | ActorUnschedulableError() | TaskUnschedulableError():
            return "Ray could not start its worker", again
        case _:
            return "its worker died", f"most often memory runs out: {less}"


# --- The cluster ------------------------------------------------------------------------------------------------------


@contextmanager
def cluster(workers: WorkersConfig) -> Iterator[None]:
    """Ray: the one this process has already, the one at an address, the one this job runs on, or one of our own.

    Raises ResourceError: nobody answers, or it is too small, which would mean waiting for ever.
    """
    if ray.is_initialized():
        _require_resources(workers)
        yield
        return
    address = workers.address or os.environ.get("RAY_ADDRESS") or "local"
    if address.startswith("ray://"):
        raise ResourceError(f"workers.address {address}: a Ray client does not share the cluster's disks; submit a job")
    options: dict[str, Any] = {"address": address, "log_to_driver": False, "logging_level": logging.ERROR}
    if address == "local":
        # Ray would leave a token under the home directory, and every later `ray start` would ask for it.
        if "RAY_AUTH_MODE" not in os.environ and not (Path.home() / ".ray" / "auth_token").exists():
            os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
        path = os.pathsep.join(filter(None, [str(PROJECT), os.environ.get("PYTHONPATH")]))
        options |= {"include_dashboard": False, "object_store_memory": OBJECT_STORE_BYTES}
        options |= {"runtime_env": {"env_vars": {"PYTHONPATH": path}}}
    elif JOB not in os.environ:  # a submitted job brings its own working directory
        options |= {"runtime_env": {"py_modules": [str(PROJECT / "pipeline"), str(PROJECT / "schemas")]}}
    logging.getLogger("ray").setLevel(logging.ERROR)
    try:
        ray.init(**options)
    except (ConnectionError, RayError, RuntimeError, ValueError) as error:
        raise ResourceError(f"cannot reach Ray at {address}: {error}") from error
    try:
        _require_resources(workers)
        yield
    finally:
        ray.shutdown()


def _require_resources(workers: WorkersConfig) -> None:
    require_places(workers, [node["Resources"] for node in ray.nodes() if node["Alive"]])


def _most_annotators(workers: WorkersConfig) -> int:
    """How many annotations the processors left over can work on at once."""
    left = ray.cluster_resources().get("CPU", 0) - workers.count * workers.cpus
    return max(workers.count, min(MOST_ANNOTATORS * workers.count, int(left / workers.annotator_cpus)))


@contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM, as a job's stop sends it, ends like Ctrl-C: actors killed, Ray shut down, committed shards kept."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: FrameType | None) -> NoReturn:
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
