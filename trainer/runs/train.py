"""One student run: cache in, model folder out; interrupted or not, the same student."""

import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from schemas.cache.manifest import TEACHER, keeps_tokens
from schemas.cache.reader import Cache
from schemas.configs.losses import CrossEntropyConfig, LossConfig, Texts
from schemas.configs.training import StudentConfig, TrainingConfig
from schemas.errors import RunError
from schemas.models.files import load_tokenizer
from schemas.models.head import scale_and_softcap
from schemas.models.teacher_head import load_teacher_embedding, load_teacher_head
from schemas.storage.fingerprint import differences
from trainer.alignment.quality import MEASURED, measure_alignment, require_alignment
from trainer.alignment.vocabulary import SharedVocabulary, same_tokenizer, share_vocabulary
from trainer.data.batch import Needs
from trainer.data.loader import BatchBuilder, StudentEncoder, TextEncoder, batches
from trainer.evaluation.held_out import HeldOut, Result, read_result
from trainer.objectives.loss import Pair
from trainer.objectives.objective import Objective, build_objective
from trainer.optimisation.loop import Loop, Source
from trainer.optimisation.memory import keep_freed_memory
from trainer.optimisation.optimizer import make_optimizer
from trainer.optimisation.sharpness import Sharpness
from trainer.runs.checkpoint import (
    CheckpointRecord,
    latest_checkpoint,
    load_model,
    read_record,
    restore,
    save_checkpoint,
)
from trainer.runs.folder import RunFolder
from trainer.runs.metrics import MetricsLog
from trainer.runs.progress import TrainingProgress
from trainer.student.device import choose_device
from trainer.student.load import load_student, load_student_tokenizer, prepare
from trainer.student.logits import LogitShape, check_logits
from trainer.student.sentence_tokens import SentenceTexts
from trainer.student.teacher_pca import start_from_teacher


@dataclass(frozen=True)
class RunResult:
    """What a run came to."""

    folder: Path
    steps: int
    already_done: bool
    evaluation: Result | None
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
        return RunResult(folder.path, steps, True, read_result(last) if last else None, 0.0)
    with folder.locked():
        evaluation = _Run(config, caches, folder, steps).finish()
    return RunResult(folder.path, steps, False, evaluation, time.monotonic() - started)


class _Run:
    """A run that is set up, from scratch or from its latest checkpoint."""

    def __init__(self, config: TrainingConfig, caches: dict[Texts, Cache], folder: RunFolder, steps: int):
        self.config, self.folder, self.steps = config, folder, steps
        self.fingerprint = _fingerprint(caches)
        keep_freed_memory()
        if config.threads is not None:
            torch.set_num_threads(config.threads)
        self.device = choose_device(config.device)
        self.held_out = HeldOut(config.evaluation, config.student.max_tokens) if config.evaluation else None
        self.tokenizer = load_student_tokenizer(config.student, config.cache)
        encoder = _text_encoder(config.student, self.tokenizer)

        checkpoint = latest_checkpoint(folder.checkpoints)
        record = self._record(checkpoint)
        self.done = record.step
        # Student, losses and dropout draw from seeds of their own: every objective starts from the same student.
        torch.manual_seed(config.seed)
        self.model: Any = (
            load_model(checkpoint, config.student.trust_remote_code)
            if checkpoint
            else _new_student(config.student, caches["corpus"], self.tokenizer)
        )
        torch.manual_seed(config.seed + 1)
        self.alignment: dict[str, float] = {}
        objectives = {texts: self._objective(texts, cache, encoder) for texts, cache in caches.items()}
        self.losses = nn.ModuleDict({str(texts): objective for texts, objective in objectives.items()})
        self.model = self.model.to(self.device)
        for objective in objectives.values():
            prepare(self.model, objective.needs)
        groups = [group for objective in objectives.values() for group in objective.parameter_groups()]
        self.optimizer = make_optimizer(self.model, groups, config.optimizer)
        sharpness = config.optimizer.sharpness
        named = (*self.model.named_parameters(), *self.losses.named_parameters())
        self.sharpness = Sharpness(sharpness, named, record.skipped) if sharpness else None
        torch.manual_seed(config.seed + 2)
        if checkpoint is not None:
            restore(checkpoint, self.losses, self.optimizer)
        first = self.done * config.accumulation
        sources: dict[Texts, Source] = {}
        for texts, cache in caches.items():
            builder = BatchBuilder(cache, encoder, objectives[texts].needs)
            stream = iter(batches(builder, config.batch_size, config.seed, first, config.loader_workers))
            sources[texts] = Source(objectives[texts], stream)
        self.loop = Loop(config, self.model, sources, self.optimizer, self.device, steps, self.sharpness)

    def finish(self) -> Result | None:
        """Take the steps that are left and publish the model; returns the last evaluation."""
        config = self.config
        last: Result | None = None
        self.folder.begin()
        name = self.folder.path.name
        with MetricsLog(self.folder.path, self.done) as log, TrainingProgress(name, self.done, self.steps) as progress:
            if self.alignment and self.done == 0:
                log.write(0, self.alignment)
            for step in range(self.done + 1, self.steps + 1):
                report = self.loop.step(step - 1)
                is_last = step == self.steps
                if step % config.log_every == 0 or is_last:
                    log.write(step, report.values(), {"tokens_per_second": report.tokens_per_second})
                if config.evaluation and self.held_out and (step % config.evaluation.every == 0 or is_last):
                    last = self.held_out(self.model, self.tokenizer, self.device)
                    log.write(step, last.metrics())
                progress.update(step, report, last)
                if step % config.checkpoint_every == 0 and not is_last:
                    self._save(step)
        self.folder.finish(self.model, self.tokenizer, asdict(last) if last else None)
        return last

    def _objective(self, texts: Texts, cache: Cache, encoder: TextEncoder) -> Objective:
        losses = [loss for loss in self.config.objective if loss.texts == texts]
        pair = _pair(cache, self.model, self.tokenizer, losses)
        objective = build_objective(losses, pair)
        if objective.needs.modules:
            check_logits(self.model, pair.student_logits)
        if self.config.student.kind == "causal" and keeps_tokens(cache.manifest.arrays):
            self._measure_alignment(texts, cache, encoder, objective)
        return objective.to(self.device)

    def _measure_alignment(self, texts: Texts, cache: Cache, encoder: TextEncoder, objective: Objective) -> None:
        quality = measure_alignment(cache, encoder, MEASURED, self.config.seed, objective.needs.spans)
        if objective.needs != Needs():  # cross-entropy alone asks nothing of the teacher
            require_alignment(quality, cache.path, self.config.min_coverage, self.config.min_agreement)
        prefix = "" if texts == "corpus" else f"{texts}/"
        self.alignment |= {f"{prefix}{name}": value for name, value in quality.metrics().items()}

    def _save(self, step: int) -> None:
        skipped = self.sharpness.skipped if self.sharpness else 0
        record = CheckpointRecord(step=step, fingerprint=self.fingerprint, skipped=skipped)
        keep = self.config.keep_checkpoints
        save_checkpoint(self.folder.checkpoints, record, self.model, self.losses, self.optimizer, keep)

    def _record(self, checkpoint: Path | None) -> CheckpointRecord:
        if checkpoint is None:
            return CheckpointRecord(step=0, fingerprint=self.fingerprint)
        record = read_record(checkpoint)
        if record.fingerprint != self.fingerprint:
            raise RunError(f"{checkpoint} was made from another cache; give the run another output")
        return record


def _new_student(config: StudentConfig, cache: Cache, tokenizer: Any) -> Any:
    model = load_student(config, tokenizer)
    if config.embeddings == "teacher_pca":
        start_from_teacher(model, load_teacher_embedding(cache.path, cache.manifest))
    return model


def _text_encoder(config: StudentConfig, tokenizer: Any) -> TextEncoder:
    if config.kind == "encoder":
        return SentenceTexts(tokenizer, config.max_tokens)
    return StudentEncoder(tokenizer, config.max_tokens, config.append_eos)


def _pair(cache: Cache, model: Any, tokenizer: Any, losses: Sequence[LossConfig]) -> Pair:
    size = model.config.get_text_config()
    head, embedding, shared, same, tokenizers = None, None, SharedVocabulary.empty(), False, None
    if any(not isinstance(loss, CrossEntropyConfig) for loss in losses):  # that one asks nothing of the teacher
        teacher_tokenizer = load_tokenizer(cache.path / TEACHER)
        head = load_teacher_head(cache.path, cache.manifest)
        embedding = load_teacher_embedding(cache.path, cache.manifest)
        shared = share_vocabulary(tokenizer, teacher_tokenizer)
        same = same_tokenizer(tokenizer, teacher_tokenizer)
        tokenizers = (tokenizer, teacher_tokenizer)
    layers, width = size.num_hidden_layers, size.hidden_size
    logits = LogitShape(*scale_and_softcap(size))
    return Pair(cache.manifest, head, layers, width, shared, same, embedding, tokenizers, logits)


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
