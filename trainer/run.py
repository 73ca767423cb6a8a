"""One student run: cache in, model folder out; interrupted or not, the same student."""

import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from schemas.errors import ResourceError, RunError
from schemas.fingerprint import differences
from schemas.losses import CrossEntropyConfig, LossConfig, Texts
from schemas.manifest import TEACHER
from schemas.model_files import load_tokenizer
from schemas.training import TrainingConfig
from trainer.cache import Cache
from trainer.checkpoint import CheckpointRecord, latest_checkpoint, load_model, read_record, restore, save_checkpoint
from trainer.evaluate import Evaluation, evaluate, read_texts
from trainer.loader import BatchBuilder, StudentEncoder, batches
from trainer.loop import Loop, Source
from trainer.metrics import MetricsLog
from trainer.objectives.base import Pair
from trainer.objectives.objective import Objective, build_objective
from trainer.optimizer import make_optimizer
from trainer.progress import TrainingProgress
from trainer.run_folder import RunFolder
from trainer.student import load_student, load_student_tokenizer, prepare
from trainer.teacher_head import load_teacher_head
from trainer.vocabulary import SharedVocabulary, same_tokenizer, share_vocabulary


@dataclass(frozen=True)
class RunResult:
    """What a run came to."""

    folder: Path
    steps: int
    already_done: bool
    evaluation: Evaluation | None
    seconds: float


def train(config: TrainingConfig) -> RunResult:
    """Train the student of `config`, or go on from its latest checkpoint; a finished run is left alone.

    Raises the StillroomError that fits: RunError (folder, objective, non-finite loss), CacheError, ModelError,
    TokenizerError, PairingError.
    """
    started = time.monotonic()
    cache = Cache(config.cache)
    steps = _num_steps(config, len(cache))
    caches: dict[Texts, Cache] = {"corpus": cache}
    if config.student_cache is not None:
        caches["student"] = _of_one_teacher(Cache(config.student_cache), cache)
    folder = RunFolder(config, _fingerprint(caches), steps)
    if folder.record.finished:
        last = folder.record.evaluation
        return RunResult(folder.path, steps, True, Evaluation(**last) if last else None, 0.0)  # type: ignore[arg-type]
    with folder.locked():
        evaluation = _Run(config, caches, folder, steps).finish()
    return RunResult(folder.path, steps, False, evaluation, time.monotonic() - started)


class _Run:
    """A run that is set up, from scratch or from its latest checkpoint."""

    def __init__(self, config: TrainingConfig, caches: dict[Texts, Cache], folder: RunFolder, steps: int):
        self.config, self.folder, self.steps = config, folder, steps
        self.fingerprint = _fingerprint(caches)
        if config.threads is not None:
            torch.set_num_threads(config.threads)
        self.device = _device(config.device)
        held_out = config.evaluation
        self.texts = read_texts(held_out.texts, held_out.field, held_out.limit) if held_out else []
        self.tokenizer = load_student_tokenizer(config.student, config.cache)
        encoder = StudentEncoder(self.tokenizer, config.student.max_tokens, config.student.append_eos)

        checkpoint = latest_checkpoint(folder.checkpoints)
        self.done = self._steps_done(checkpoint)
        # Student, losses and dropout draw from seeds of their own: every objective starts from the same student.
        torch.manual_seed(config.seed)
        self.model: Any = (
            load_model(checkpoint, config.student.trust_remote_code)
            if checkpoint
            else load_student(config.student, self.tokenizer)
        )
        torch.manual_seed(config.seed + 1)
        objectives = {texts: self._objective(texts, cache) for texts, cache in caches.items()}
        self.losses = nn.ModuleDict({str(texts): objective for texts, objective in objectives.items()})
        self.model = self.model.to(self.device)
        for objective in objectives.values():
            prepare(self.model, objective.needs)
        groups = [group for objective in objectives.values() for group in objective.parameter_groups()]
        self.optimizer = make_optimizer(self.model, groups, config.optimizer)
        torch.manual_seed(config.seed + 2)
        if checkpoint is not None:
            restore(checkpoint, self.losses, self.optimizer)
        first = self.done * config.accumulation
        sources: dict[Texts, Source] = {}
        for texts, cache in caches.items():
            builder = BatchBuilder(cache, encoder, objectives[texts].needs)
            stream = iter(batches(builder, config.batch_size, config.seed, first, config.loader_workers))
            sources[texts] = Source(objectives[texts], stream)
        self.loop = Loop(config, self.model, sources, self.optimizer, self.device, steps)

    def finish(self) -> Evaluation | None:
        """Take the steps that are left and publish the model; returns the last evaluation."""
        config, last = self.config, None
        self.folder.begin()
        name = self.folder.path.name
        with MetricsLog(self.folder.path, self.done) as log, TrainingProgress(name, self.done, self.steps) as progress:
            for step in range(self.done + 1, self.steps + 1):
                report = self.loop.step(step - 1)
                is_last = step == self.steps
                if step % config.log_every == 0 or is_last:
                    log.write(step, report.values(), {"tokens_per_second": report.tokens_per_second})
                if config.evaluation and (step % config.evaluation.every == 0 or is_last):
                    last = evaluate(self.model, self.tokenizer, self.texts, config.student.max_tokens, self.device)
                    log.write(step, {"bits_per_byte": last.bits_per_byte, "nats_per_token": last.nats_per_token})
                progress.update(step, report, last)
                if step % config.checkpoint_every == 0 and not is_last:
                    self._save(step)
        self.folder.finish(self.model, self.tokenizer, asdict(last) if last else None)
        return last

    def _objective(self, texts: Texts, cache: Cache) -> Objective:
        losses = [loss for loss in self.config.objective if loss.texts == texts]
        pair = _pair(cache, self.model, self.tokenizer, losses)
        return build_objective(losses, pair).to(self.device)

    def _save(self, step: int) -> None:
        record = CheckpointRecord(step=step, fingerprint=self.fingerprint)
        keep = self.config.keep_checkpoints
        save_checkpoint(self.folder.checkpoints, record, self.model, self.losses, self.optimizer, keep)

    def _steps_done(self, checkpoint: Path | None) -> int:
        if checkpoint is None:
            return 0
        record = read_record(checkpoint)
        if record.fingerprint != self.fingerprint:
            raise RunError(f"{checkpoint} was made from another cache; give the run another output")
        return record.step


def _pair(cache: Cache, model: Any, tokenizer: Any, losses: Sequence[LossConfig]) -> Pair:
    size = model.config.get_text_config()
    head, shared, same, tokenizers = None, SharedVocabulary.empty(), False, None
    if any(not isinstance(loss, CrossEntropyConfig) for loss in losses):  # that one asks nothing of the teacher
        teacher_tokenizer = load_tokenizer(cache.path / TEACHER)
        head = load_teacher_head(cache.path, cache.manifest)
        shared = share_vocabulary(tokenizer, teacher_tokenizer)
        same = same_tokenizer(tokenizer, teacher_tokenizer)
        tokenizers = (tokenizer, teacher_tokenizer)
    return Pair(cache.manifest, head, size.num_hidden_layers, size.hidden_size, shared, same, tokenizers=tokenizers)


def _fingerprint(caches: dict[Texts, Cache]) -> str:
    return "+".join(cache.manifest.fingerprint for cache in caches.values())


def _of_one_teacher(student: Cache, corpus: Cache) -> Cache:
    """Raises RunError naming what differs, if the two caches are not of one teacher."""
    lines = list(differences(student.manifest.identity["teacher"], corpus.manifest.identity["teacher"]))
    if lines:
        raise RunError(
            f"{student.path} and {corpus.path} are not of one teacher, run in one way:\n  " + "\n  ".join(lines)
        )
    return student


def _num_steps(config: TrainingConfig, samples: int) -> int:
    if config.steps is not None:
        return config.steps
    assert config.epochs is not None  # the config has one of the two
    return math.ceil(config.epochs * samples / (config.batch_size * config.accumulation))


def _device(name: str) -> torch.device:
    if name == "cuda" and not torch.cuda.is_available():
        raise ResourceError("device is cuda, but torch sees no GPU; set device: auto or cpu")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")
