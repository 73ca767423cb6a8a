"""Extraction: the teacher is run once over a corpus, on one machine or a Ray cluster, into a cache.

Units are read by the driver, annotated by tasks, run and written by teacher actors; the schedule says which and when. A
worker that dies costs the units it held, which are tried again; a driver that dies costs those in flight, and the same
call goes on from there. Starting Ray takes some 6 seconds and 0.5 GB; a finished cache is recognised without it.
"""

import os
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from rich.filesize import decimal

from pipeline.cluster.actors import Actors
from pipeline.cluster.connection import JOB, Connection, connected, most_annotators, terminable
from pipeline.cluster.figures import Tally, padding_share
from pipeline.cluster.metrics import Metrics
from pipeline.cluster.result import ExtractionResult, make_result
from pipeline.cluster.schedule import (
    Action,
    Annotate,
    AskRoom,
    Done,
    Event,
    Finish,
    GiveUp,
    Limits,
    Loaded,
    NoRoom,
    Retry,
    Room,
    Run,
    Schedule,
    StartWorker,
    StopWorker,
    Waited,
)
from pipeline.corpus.plan import Unit
from pipeline.output.codecs import require_same_codecs
from pipeline.output.disk import has_room, require_room
from pipeline.output.elsewhere import bring_folders, find_published, read_begun, working_folder
from pipeline.output.missing import Missing
from pipeline.output.resume import Output, find_complete, open_output
from pipeline.output.seal import seal
from pipeline.request.extension import require_extension
from pipeline.request.request import Request, make_request
from pipeline.work.job import make_job
from pipeline.work.worker import UnitReport
from schemas.cache.manifest import CacheManifest
from schemas.cache.sections import list_sections
from schemas.configs.extraction import ExtractionConfig
from schemas.errors import CacheError, ConfigError, ResourceError
from schemas.progress import Progress
from schemas.storage.published import published_at

POLL_SECONDS = 0.5


def extract(config: ExtractionConfig) -> ExtractionResult:
    """Make the cache that `config` describes, or what is missing of it.

    Raises ConfigError, CorpusError, ModelError, TokenizerError, AnnotatorError: the request cannot be. CacheError: the
    output is something else's, the differing fields named. ResourceError: Ray, processors, GPUs, memory or disk.
    """
    return _extract(config, _extended(config.output))


def extend(config: ExtractionConfig) -> ExtractionResult:
    """Add to the cache that is there what its corpus has gained since, samples behind those that it holds, and the
    layers and kinds of states that it lacks.

    The shards that are there stay as they are. Until the last new one is written, so does all else, and readers find
    the cache as it was. Raises what `extract` does, and CacheError: there is no cache, or something beside the corpus
    differs; CorpusError: the corpus does not begin with the samples of the cache.
    """
    before = read_begun(config.output)
    before.check_copies(config.output)
    return _extract(config, before, grows=True)


def _extended(cache: Path) -> CacheManifest | None:
    """The manifest of a cache that was extended, whose units stay as they were cut. Damage to it is told later."""
    try:
        found = read_begun(cache)
    except CacheError:
        return None
    return found if found.parts else None


def _extract(config: ExtractionConfig, before: CacheManifest | None, grows: bool = False) -> ExtractionResult:
    started = time.monotonic()
    if JOB in os.environ and not config.output.is_absolute():
        raise ConfigError(
            f"output: {config.output} is relative, and a job's working directory is a copy that Ray deletes; "
            "give an absolute path on storage that all machines share"
        )
    cache = working_folder(config.output)
    request = make_request(config, before)
    if before is not None:
        require_extension(before, request.manifest, request.plan, grows)
    plan = request.plan
    published = published_at(cache) is not None
    done = (find_published if published else find_complete)(cache, request.manifest)
    if done is not None:
        return make_result(request, config.output, done, {}, started, already_done=True)
    with (
        Progress("extracting", "samples", plan.samples) as progress,
        open_output(cache, request.manifest, progress.say) as output,
    ):
        missing = Missing(request, cache, output.seen)
        units, reports, tally = missing.units, dict[int, UnitReport](), Tally()
        if units or not missing.is_prepared:
            shards = 0 if published else missing.predict_bytes()
            require_room(cache, shards, len(units), len(plan.units), missing.bytes_beside())
            with terminable(), connected(config.workers, output.discard) as connection:
                reports = _Driver(request, output, missing, progress, connection, tally).run()
        whole = seal(output, request.manifest)
        result = make_result(request, config.output, whole, reports, started, tally=tally)
        if result.figures is not None:
            figures = asdict(result.figures)
            output.log("end", units=len(reports), tokens=result.new_tokens, seconds=round(result.seconds, 3), **figures)
        return result


class _Driver:
    """Ties the schedule to Ray, the disk, the log and the progress of one run over the missing units."""

    def __init__(
        self,
        request: Request,
        output: Output,
        missing: Missing,
        progress: Progress,
        connection: Connection,
        tally: Tally,
    ):
        """What happens is counted in `tally`."""
        self._tally, self._metrics = tally, Metrics(output.cache.name)
        self._request, self._output, self._progress, self._connection = request, output, progress, connection
        self._missing, self._units_left = missing, missing.units
        self._units = request.plan.read_units(request.corpus, skip=output.done.keys())
        workers = request.config.workers
        limits = Limits(workers.count, workers.retries, most_annotators(workers))
        self._schedule = Schedule([unit.number for unit in self._units_left], limits, teacher_saved=missing.is_prepared)
        makes = tuple(section.number for section in missing.sections) or None
        job, samples = make_job(request, output.cache, makes), request.plan.calibration
        self._actors = Actors(job, workers, connection.runtime_env, samples)
        self._finished = self._loaded = False

    def run(self) -> dict[int, UnitReport]:
        """The reports by unit. Whatever goes wrong, the actors are gone afterwards."""
        self._begin()
        try:
            self._perform(self._schedule.start())
            while not self._finished:
                events = self._actors.wait(POLL_SECONDS)
                self._connection.require_alive()
                for event in events or [Waited()]:
                    self._note(event)
                    self._perform(self._schedule.handle(event))
                self._show_progress()
        finally:
            if not self._connection.watched.dead():
                self._actors.stop_all()
        return self._actors.reports

    def _begin(self) -> None:
        self._done_before = sum(shard.record.samples + shard.record.overlong for shard in self._output.done.values())
        self._begin_work()
        actors = max(1, min(self._request.config.workers.count, len(self._units_left)))
        self._output.log("start", units=len(self._units_left), actors=actors)

    def _begin_work(self) -> None:
        tokens = sum(unit.tokens for unit in self._units_left)
        self._progress.begin(self._done_before, self._request.plan.samples, tokens)

    def _perform(self, actions: Iterable[Action]) -> None:
        """Do what the schedule says; its questions are answered at once."""
        waiting = deque(actions)
        while waiting:
            answer = self._do(waiting.popleft())
            if answer is not None:
                waiting.extend(self._schedule.handle(answer))

    def _do(self, action: Action) -> Event | None:
        match action:
            case StartWorker(worker, saves_files):
                self._actors.start(worker, saves_files)
            case StopWorker(worker):
                self._actors.stop(worker)
            case Annotate(unit):
                self._annotate(unit)
            case Run(worker, unit):
                self._actors.run(worker, unit)
            case AskRoom(units):
                return Room(self._has_room(units))
            case NoRoom(units):
                self._require_room(units)
                return Waited()
            case Retry() | GiveUp():
                self._tell(action)
            case Finish():
                self._finished = True
        return None

    def _annotate(self, number: int) -> None:
        if not self._actors.knows(number):
            unit, samples = next(self._units)  # the schedule begins units in the order of the plan
            assert unit.number == number
            self._actors.give(number, samples)
        self._actors.annotate(number)

    def _has_room(self, units: Iterable[int]) -> bool:
        # What is published is kept here until it is, a unit of each worker at a time.
        published = published_at(self._output.cache) is not None
        return has_room(self._output.cache, 0 if published else self._missing.predict_bytes(self._planned(units)))

    def _require_room(self, units: Iterable[int]) -> None:
        planned, all_units = self._planned(units), len(self._request.plan.units)
        require_room(self._output.cache, self._missing.predict_bytes(planned), len(planned), all_units)

    def _planned(self, units: Iterable[int]) -> list[Unit]:
        return [self._request.plan.units[unit] for unit in units]

    def _tell(self, action: Retry | GiveUp) -> None:
        """Into log and progress; raises ResourceError if the schedule gives up."""
        what = "loading the teacher" if action.unit is None else f"unit {action.unit}"
        trouble, retries = action.trouble, self._request.config.workers.retries
        self._output.log("lost", what=what, reason=trouble.said)
        if isinstance(action, Retry):
            self._tally.retries[trouble.happened] += 1
            self._metrics.count_retry(trouble.happened)
            if action.unit is not None:
                self._tally.tries[action.unit] += 1
        if isinstance(action, GiveUp):
            raise ResourceError(
                f"{what}: {trouble.happened} {action.tries} times; {trouble.way_out}. Ray says: {trouble.said[:500]}"
            )
        self._progress.say(f"{what}: {trouble.happened}; trying again ({action.tries} of {retries})")

    def _note(self, event: Event) -> None:
        if isinstance(event, Loaded) and not self._loaded:
            self._loaded = True
            bring_folders(self._output.cache, self._request.manifest)
            for section in list_sections(self._output.cache, self._request.manifest):
                require_same_codecs(section.folder, section.manifest, self._output.seen[section.number])
            self._begin_work()
        if isinstance(event, Done):
            report = self._actors.reports[event.unit]
            self._tally.add(event.unit, event.worker, report)
            self._metrics.count_unit(event.worker, report, self._tally)
            halved = {"halved": report.halved} if report.halved else {}
            if halved:
                self._progress.say(f"unit {event.unit}: memory ran out, and {report.halved} batches were halved")
            self._output.log(
                "unit",
                unit=event.unit,
                worker=event.worker,
                tries=1 + self._tally.tries[event.unit],
                samples=report.record.samples,
                truncated=report.record.truncated,
                overlong=report.record.overlong,
                tokens=report.tokens,
                padding=round(padding_share(report.tokens, report.positions), 4),
                bytes=report.bytes,
                forward_seconds=round(report.forward_seconds, 6),
                write_seconds=round(report.write_seconds, 6),
                **halved,
            )

    def _show_progress(self) -> None:
        if not self._loaded:
            calibrating = self._missing.needs_calibration
            state = "the teacher is loading" + (", its codecs are being calibrated" if calibrating else "")
            self._progress.update(self._done_before, state)
            return
        reports = self._actors.reports.values()
        samples, tokens = self._actors.batches()
        samples += sum(report.record.samples + report.record.overlong for report in reports)
        tokens += sum(report.tokens for report in reports)
        size = sum(report.bytes for report in reports)
        state = f"{decimal(size)} written" if size else "the first unit is being made"
        self._progress.update(self._done_before + samples, state, tokens)
