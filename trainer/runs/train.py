"""One student run: cache in, model folder out; interrupted or not, the same student."""

import time
from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from schemas.cache.readable import ReadableCache
from schemas.configs.training import TrainingConfig
from schemas.console import make_console
from schemas.errors import RunError, StillroomError
from schemas.failures import memory_failed
from schemas.progress import Progress
from trainer.evaluation.metric import Measurement, read_measurement
from trainer.optimisation.division import gathered
from trainer.optimisation.moments import moments
from trainer.optimisation.random_state import gather_generator_states
from trainer.optimisation.ranks import Ranks
from trainer.runs.bounds import require_sensible
from trainer.runs.caches import Caches, count_steps, join_fingerprints, open_caches
from trainer.runs.checkpoint import CheckpointRecord, Start, find_start, save_checkpoint
from trainer.runs.folder import RunFolder
from trainer.runs.group import joined
from trainer.runs.inputs import read_inputs, require_same_inputs
from trainer.runs.metrics import MetricsLog, NoLog
from trainer.runs.model import without_runs
from trainer.runs.progress import describe_step
from trainer.runs.record import require_model
from trainer.runs.setup import Training, set_up
from trainer.runs.shared import Shared
from trainer.runs.start_ranks import is_for_several, start_ranks
from trainer.student.adapter import has_adapter
from trainer.student.compiled import as_written


@dataclass(frozen=True)
class RunResult:
    """The result of a run."""

    folder: Path
    steps: int
    already_done: bool
    evaluation: Measurement | None
    seconds: float


@dataclass(frozen=True)
class OpenRun:
    """A run whose folder and caches were looked at, and found to be its own."""

    config: TrainingConfig  # with what an earlier version meant by settings that it leaves out
    caches: Caches
    folder: RunFolder
    steps: int

    def finished(self) -> RunResult | None:
        """The result of a run that is done. Raises RunError if its model was altered since; reads it whole."""
        if not self.folder.record.finished:
            return None
        require_model(self.folder.path, self.folder.record)
        last = self.folder.record.evaluation
        return RunResult(self.folder.path, self.steps, True, read_measurement(last) if last else None, 0.0)


def open_run(config: TrainingConfig, cache: ReadableCache | None = None) -> OpenRun:
    """The run of `config`, about which nothing is changed. Loads no model. Raises what `train` does."""
    config = config.model_copy(update={"student": without_runs(config.student)})
    caches = open_caches(config, cache)
    require_sensible(config, min(map(len, caches.values())))
    steps = count_steps(config, len(caches["corpus"]))
    folder = RunFolder(config, join_fingerprints(caches, config.weights), steps)
    return OpenRun(folder.config, caches, folder, steps)


Steps = Generator[int, None, RunResult]  # a run as it goes on: the number of steps done, after set-up and each step


def train(config: TrainingConfig, cache: ReadableCache | None = None) -> RunResult:
    """Train the student of `config`, or go on from its latest checkpoint; a finished run is left alone.

    `cache` is read instead of opening what `config.cache` names: many runs may share one. The caller's random numbers
    and threads are as before afterwards. With `devices`, a script calls it under `if __name__ == "__main__":`.

    Raises the StillroomError that fits: RunError (folder, objective, non-finite loss), CacheError, ModelError,
    TokenizerError, PairingError; TypeError: not a config, but its file, say.
    """
    if not isinstance(config, TrainingConfig):
        raise TypeError(
            f"a TrainingConfig is wanted, this is {config!r:.80}; schemas.configs.yaml.load_config reads one"
        )
    if is_for_several(config):
        with _harmless():
            return _result_of(start_ranks(config, train_as_rank))
    with joined(config):
        steps = steps_of(config, cache)
        while True:
            try:
                next(steps)
            except StopIteration as end:
                result: RunResult = end.value
                return result


def train_as_rank(config: TrainingConfig) -> dict[str, Any]:
    """`train` in a process that was started for it: the result as JSON."""
    result = train(config)
    return asdict(result) | {"folder": str(result.folder)}


def _result_of(found: dict[str, Any]) -> RunResult:
    last = found["evaluation"]
    evaluation = read_measurement(last) if last else None
    return RunResult(**found | {"folder": Path(found["folder"]), "evaluation": evaluation})


def steps_of(config: TrainingConfig, cache: ReadableCache | None = None, shared: Shared | None = None) -> Steps:
    """The same, step by step, with what is `shared` with other runs; between two steps, the process's random
    numbers and threads are this run's.

    Of several ranks, the first one alone writes; the others read what it has chosen to go on from. What is refused
    before the first step is `harmless`, unless memory failed.
    """
    started = time.monotonic()
    ranks = Ranks.here()
    if shared is not None and config.devices > 1:
        raise RunError("students that share one read train on one device: leave `devices` out, or do not share")
    with _harmless():
        run = open_run(config, cache)
        if (done := run.finished()) is not None:
            return done
    config, caches, folder, steps = run.config, run.caches, run.folder, run.steps
    with ExitStack() as held, _own_settings(config.threads):
        with _harmless():
            start = _start(folder, ranks, held)
            inputs = read_inputs(config, caches["corpus"].path)
            require_same_inputs(config, folder.record.inputs, inputs, start.checkpoint)
            training = set_up(config, caches, start, steps, inputs, shared, ranks)
        try:
            evaluation = yield from _finish(config, folder, training, steps)
        finally:
            training.close()
    return RunResult(folder.path, steps, False, evaluation, time.monotonic() - started)


def _start(folder: RunFolder, ranks: Ranks, held: ExitStack) -> Start:
    """The first rank's choice, on every rank. The folder is locked, and stays so while it is `held`."""

    def choose() -> tuple[str, dict[str, Any]]:
        held.enter_context(folder.locked())
        folder.require_folders()
        found = find_start(folder.checkpoints, folder.record.fingerprint, folder.run)
        return str(found.checkpoint or ""), found.record.model_dump(mode="json")

    place, record = ranks.by_first(choose)
    return Start(Path(place) if place else None, CheckpointRecord.model_validate(record))


@contextmanager
def _harmless() -> Iterator[None]:
    """What is refused in here leaves the process as good as it was."""
    try:
        yield
    except StillroomError as error:
        error.harmless = not memory_failed(error)
        raise


@contextmanager
def _own_settings(threads: int | None) -> Iterator[None]:
    """The run's random numbers and number of threads, and the caller's again afterwards."""
    before = torch.get_num_threads()
    gpus = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices=gpus):
        try:
            if threads is not None:
                torch.set_num_threads(threads)
            yield
        finally:
            torch.set_num_threads(before)


def _finish(
    config: TrainingConfig, folder: RunFolder, training: Training, steps: int
) -> Generator[int, None, Measurement | None]:
    """Take the steps that are left and publish the model; returns the last evaluation."""
    loop, done, inputs = training.loop, training.done, training.inputs
    first, console = loop.ranks.is_first, make_console(stderr=True)
    console.quiet = not first
    loop.ranks.by_first(lambda: folder.begin(inputs.hashes if done == 0 else None))
    last: Measurement | None = None
    progress = Progress(folder.path.name, "steps", steps, done=done, console=console)
    with MetricsLog(folder.path, done, steps) if first else NoLog() as log, progress:
        if training.alignment and done == 0:
            log.write(0, training.alignment)
        yield done
        for step in range(done + 1, steps + 1):
            report = loop.step(step - 1)
            is_last = step == steps
            if step % config.log_every == 0 or is_last:
                log.write(step, report.values(), {"tokens_per_second": report.tokens_per_second})
            measures = first or loop.division is not None  # a divided student takes all ranks
            if measures and config.evaluation and inputs.held_out and (step % config.evaluation.every == 0 or is_last):
                with loop.division.whole() if loop.division else nullcontext(), as_written():
                    last = inputs.held_out(loop.model, inputs.tokenizer, loop.device)
                log.write(step, last.metrics())
            progress.update(step, describe_step(report, last))
            if step % config.checkpoint_every == 0 and not is_last:
                _save(config, folder, training, step)
            yield step
    with loop.division.assembled(first) if loop.division else nullcontext():
        if first:
            folder.finish(loop.model, inputs.tokenizer, asdict(last) if last else None)
    return last


def _save(config: TrainingConfig, folder: RunFolder, training: Training, step: int) -> None:
    loop, first = training.loop, training.loop.ranks.is_first
    generators = gather_generator_states(loop.ranks)
    held = gathered(moments(loop.optimizer), first)
    with loop.division.assembled(first, has_adapter(loop.model)) if loop.division else nullcontext():
        if not first:
            return
        folder.require_lock()
        skipped = loop.sharpness.skipped if loop.sharpness else 0
        of = {"fingerprint": folder.record.fingerprint, "run": folder.run}
        record = CheckpointRecord(step=step, **of, skipped=skipped, empty=loop.empty)
        kept = config.keep_checkpoints
        save_checkpoint(folder.checkpoints, record, loop.model, training.losses, held, generators, kept)
