"""The work of a worker: annotating a unit, and running the teacher over it. Knows nothing of Ray.

The states of a unit are held once, in memory, between the forward pass and the disk:
unit_tokens * (sum of all array widths) * bytes per number; twice that, because writing overlaps the next pass.
"""

import platform
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
from transformers import PreTrainedTokenizerBase

from pipeline.annotation.annotator import ANNOTATORS, Annotator, load_annotator, parse_annotator
from pipeline.annotation.tokens import Counts, TokenizedSample, tokenize
from pipeline.corpus.sample import NO_SPANS, AnnotatedSample, Sample, Spans
from pipeline.corpus.special_tokens import SpecialTokens, said_alone
from pipeline.encoding.unit import UnitEncoder
from pipeline.output.codecs import needs_calibration
from pipeline.output.resume import LOCK
from pipeline.output.shards import as_cached
from pipeline.request.request import ModelFolders, Request, Stamps, find_folders, hash_teacher
from pipeline.teacher.files import save_teacher_files
from pipeline.teacher.run import Teacher
from pipeline.teacher.wanted import WantedStates
from pipeline.work.calibration import calibrate, teacher_head
from schemas.cache.arrays import keeps_tokens
from schemas.cache.encoding_cost import EncodingCost
from schemas.cache.halved import HalvedBatch
from schemas.cache.manifest import MANIFEST, TEACHER, CacheManifest, read_manifest
from schemas.cache.shard import ShardRecord, read_shard, shard_path
from schemas.cache.states import Values
from schemas.cache.token_rows import every_row, target_rows
from schemas.cache.writer import write_shard
from schemas.configs.extraction import ExtractionConfig, TeacherConfig
from schemas.errors import AnnotatorError, CacheError, ModelError, ResourceError
from schemas.models.hashes import hash_tokenizer
from schemas.models.tokenizer import load_tokenizer
from schemas.storage.lock import read_token

TEACHER_PARTS = ("weights", "config", "code", "tokenizer", "adapter")  # each has its hash in a cache's identity


@dataclass(frozen=True)
class Job:
    """The orders that every worker gets."""

    config: ExtractionConfig
    folders: ModelFolders  # on the driver's machine
    manifest: CacheManifest
    cache: Path  # absolute
    stamps: Stamps = ()  # of the teacher's files on the driver's machine; without, they are hashed again


def make_job(request: Request, cache: Path) -> Job:
    """The job for workers, whose working directory is another: paths in the config that are local become absolute."""
    config = request.config
    annotator, argument = parse_annotator(config.spans.annotator)
    spans = config.spans.model_copy(update={"annotator": annotator.spec(_absolute(argument))})
    tokenizer = None if config.teacher.tokenizer is None else _absolute(config.teacher.tokenizer)
    teacher = config.teacher.model_copy(update={"tokenizer": tokenizer})
    job_config = config.model_copy(update={"spans": spans, "teacher": teacher})
    return Job(job_config, request.folders, request.manifest, cache, request.stamps)


@dataclass(frozen=True)
class AnnotatedUnit:
    """A unit, ready for the teacher."""

    number: int
    samples: list[AnnotatedSample]
    counts: Counts


@dataclass(frozen=True)
class UnitReport:
    """A committed unit and where its time went. Moments are seconds since 1970, to compare machines."""

    record: ShardRecord
    tokens: int  # that went through the teacher, kept or not
    first_batch: float = 0.0
    first_tokens: int = 0
    last_batch: float = 0.0
    forward_seconds: float = 0.0
    write_seconds: float = 0.0
    halved: int = 0  # batches for which memory ran out


def annotate_unit(job: Job, number: int, samples: list[Sample]) -> AnnotatedUnit:
    """Tokens and spans of a unit's samples; no spans where no tokens are kept. Tools are loaded once per process.

    Raises ModelError or AnnotatorError if this machine's tokenizer or annotator is not the driver's, and whatever
    `tokenize` raises.
    """
    tokenizer = _load_tokenizer(job)
    tokenized, counts = tokenize(samples, tokenizer, job.config.teacher, job.config.corpus.overlong)
    special = SpecialTokens(tokenizer)
    spans = _find_spans(job, tokenized, special) if keeps_tokens(job.manifest.arrays) else [NO_SPANS] * len(tokenized)
    rows = job.manifest.rows
    annotated = [_annotated(t, s, rows) for t, s in zip(tokenized, spans, strict=True)]
    return AnnotatedUnit(number, annotated, counts)


def _load_tokenizer(job: Job) -> PreTrainedTokenizerBase:
    wanted = job.manifest.identity["teacher"]["tokenizer"]
    return _tokenizer(_local_folders(job).tokenizer, job.config.teacher.trust_remote_code, wanted)


class TeacherWorker:
    """One teacher. Two threads may call `run`: the forward pass is one at a time, and writing goes on beside it."""

    def __init__(self, job: Job):
        self._job = job
        self._forward = threading.Lock()
        self._teacher: Teacher | None = None
        self._encoding = threading.Lock()
        self._encoder: UnitEncoder | None = None
        self._batches: dict[int, tuple[int, int]] = {}
        self._owner = ""  # the token of the lock that the driver holds; this worker's temporary files carry it

    def prepare(self, save_files: bool, calibration: Sequence[Sample] = ()) -> None:
        """Load the teacher and, if asked, keep what students need of it in the cache, and calibrate its codecs.

        Raises what loading raises, and what running the teacher over the samples for `calibration` does.
        """
        self._check_cache()
        self._owner = read_token(self._job.cache / LOCK)
        with self._forward:
            teacher = self._load()
        target = self._job.cache / TEACHER
        if save_files and not target.exists():
            save_teacher_files(teacher, target, self._owner)
        if save_files and needs_calibration(self._job.cache, self._job.manifest):
            self._calibrate(teacher, calibration)

    def _calibrate(self, teacher: Teacher, samples: Sequence[Sample]) -> None:
        job = self._job
        tokenized, _ = tokenize(list(samples), _load_tokenizer(job), job.config.teacher, job.config.corpus.overlong)
        annotated = [_annotated(sample, NO_SPANS, job.manifest.rows) for sample in tokenized]
        with self._forward, gpu_memory("calibrating its codecs"):
            calibrate(job.cache, job.manifest, teacher, annotated, job.config.batching.batch_tokens, self._owner)

    def run(self, unit: AnnotatedUnit) -> UnitReport:
        """States of one unit, committed. A shard that is there already is left alone.

        Raises ModelError for non-finite states, ResourceError if memory of the GPU or space on the disk runs out.
        """
        job, shard = self._job, shard_path(self._job.cache, unit.number)
        if shard.exists():
            record = read_shard(shard, job.manifest.fingerprint)
            return UnitReport(record, record.tokens)
        moments: list[tuple[float, int]] = []
        halved: list[HalvedBatch] = []

        def on_batch(samples: int, tokens: int) -> None:
            before = self._batches.get(unit.number, (0, 0))
            self._batches[unit.number] = (before[0] + samples, before[1] + tokens)
            moments.append((time.time(), tokens))

        try:
            with self._forward:
                started = time.monotonic()
                teacher = self._load()
                made = teacher.run(
                    unit.samples,
                    job.config.batching.batch_tokens,
                    on_batch,
                    lambda samples, tokens: halved.append(HalvedBatch(samples=samples, tokens=tokens)),
                )
                forward_seconds = time.monotonic() - started
            started = time.monotonic()
            packed, packing = teacher.pack(made)
            stored, encoding = self._encode(packed)
            record = write_shard(
                job.cache,
                unit.number,
                [as_cached(sample) for sample in unit.samples],
                stored,
                job.manifest.arrays,
                job.manifest.fingerprint,
                unit.counts.overlong,
                self._owner,
                halved,
                packing | encoding,
            )
        finally:
            self._batches.pop(unit.number, None)
        first, last = (moments[0], moments[-1]) if moments else ((0.0, 0), (0.0, 0))
        tokens = sum(tokens for _, tokens in moments)
        return UnitReport(
            record, tokens, first[0], first[1], last[0], forward_seconds, time.monotonic() - started, len(halved)
        )

    def _encode(self, packed: Mapping[str, Values]) -> tuple[dict[str, Values], dict[str, EncodingCost]]:
        """Beside the next unit's forward pass, or alone if memory does not suffice for both."""
        try:
            return self._unit_encoder().encode(packed)
        except torch.OutOfMemoryError:
            with self._forward, gpu_memory("encoding a unit's states"):
                torch.cuda.empty_cache()
                return self._unit_encoder().encode(packed)

    def progress(self) -> dict[int, tuple[int, int]]:
        """Samples and tokens of the units at work, by unit. Costs nothing."""
        return dict(self._batches)

    def _load(self) -> Teacher:
        if self._teacher is None:
            job = self._job
            folders, teacher = _local_folders(job), job.config.teacher
            if teacher.device == "auto":  # where Ray assigned no GPU, one may still be visible
                teacher = teacher.model_copy(update={"device": "cuda" if job.config.workers.gpus else "cpu"})
            _require_same_teacher_files(folders, job)
            self._teacher = _load_teacher(teacher, job.manifest, folders)
        return self._teacher

    def _unit_encoder(self) -> UnitEncoder:
        """Made of CACHE/codecs, which is there before the first unit."""
        with self._encoding:
            if self._encoder is None:
                teacher = self._load()
                self._encoder = UnitEncoder(self._job.cache, self._job.manifest, teacher_head(teacher), teacher.device)
            return self._encoder

    def _check_cache(self) -> None:
        try:
            found = read_manifest(self._job.cache).fingerprint
        except CacheError as error:
            raise ResourceError(
                f"a worker does not see {self._job.cache / MANIFEST} ({error}); the output must lie on shared storage"
            ) from error
        if found != self._job.manifest.fingerprint:
            raise ResourceError(f"a worker sees another {self._job.cache}; the output must lie on shared storage")


def _load_teacher(config: TeacherConfig, manifest: CacheManifest, folders: ModelFolders) -> Teacher:
    with gpu_memory(f"the teacher, or one sample of {config.max_tokens:,} tokens"):
        return Teacher(config, WantedStates.of_cache(manifest), folders.model, folders.adapter)


@contextmanager
def gpu_memory(doing: str) -> Iterator[None]:
    """Raises ResourceError, which says for what, if the GPU's memory runs out inside."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise ResourceError(
            f"the GPU has no memory for {doing} ({error}); give every worker a GPU of its own (workers.gpus: 1) or a "
            "larger one and run the same command again"
        ) from error


def _annotated(tokens: TokenizedSample, spans: Spans, rows: str) -> AnnotatedSample:
    targets, offsets = tokens.targets, tokens.token_offsets
    return AnnotatedSample(
        id=tokens.id,
        text=tokens.text,
        targets=targets,
        truncated=tokens.truncated,
        token_ids=tokens.token_ids,
        token_offsets=offsets,
        token_rows=target_rows(offsets, targets) if rows == "targets" else every_row(len(offsets)),
        spans=spans,
        turns=tokens.turns,
        structure=tokens.structure,
    )


def _absolute(name: str) -> str:
    path = Path(name).expanduser()
    return str(path.absolute()) if name and path.is_dir() else name


def _find_spans(job: Job, samples: list[TokenizedSample], special: SpecialTokens) -> list[Spans]:
    spec = job.config.spans.annotator
    annotator = _annotator(spec)
    if annotator.version != job.manifest.annotator:
        raise AnnotatorError(
            f"this worker's annotator is {annotator.version}, the cache's {job.manifest.annotator}; install one on all"
        )
    texts = [special.hide(said_alone(sample.text, sample.turns)) for sample in samples]
    with ANNOTATORS.using(parse_annotator(spec)[0].name):
        found = annotator.annotate(texts)
        if len(found) != len(texts):
            raise ValueError(f"it found spans of {len(found)} texts, and {len(texts)} were given")
    return [special.outside(spans, sample.text) for spans, sample in zip(found, samples, strict=True)]


@lru_cache(maxsize=2)
def _tokenizer(folder: Path, trust_remote_code: bool, wanted: str) -> PreTrainedTokenizerBase:
    if hash_tokenizer(folder) != wanted:
        raise _differs_from_driver(folder, ["tokenizer"])
    return load_tokenizer(folder, trust_remote_code)


@lru_cache(maxsize=2)
def _annotator(spec: str) -> Annotator:
    return load_annotator(spec)


def _local_folders(job: Job) -> ModelFolders:
    """The teacher's folders on this machine: those at the driver's paths, or else fetched. Nothing is proven yet."""
    folders = job.folders
    if all(folder is None or folder.is_dir() for folder in (folders.model, folders.tokenizer, folders.adapter)):
        return folders
    return _fetch(job.config.model_dump_json())


@lru_cache(maxsize=2)
def _fetch(config: str) -> ModelFolders:
    return find_folders(ExtractionConfig.model_validate_json(config))


def _require_same_teacher_files(folders: ModelFolders, job: Job) -> None:
    """Raises ModelError if the files here are not those that the driver hashed, with the parts that differ.

    To hash gigabytes again in each actor takes as long as to load them. Where every file has the driver's path, inode,
    size and time of change, it is the driver's file, here or on a shared disk: a copy has another inode, also in images
    that set all times to one date. All others are hashed.
    """
    if folders.stamps() == job.stamps:
        return
    wanted = job.manifest.identity["teacher"]
    found = hash_teacher(folders, job.config.teacher.trust_remote_code)
    if wrong := [part for part in TEACHER_PARTS if found.get(part) != wanted.get(part)]:
        raise _differs_from_driver(folders.model, wrong)


def _differs_from_driver(folder: Path, parts: list[str]) -> ModelError:
    return ModelError(
        f"{folder} on {platform.node()} is not the driver's teacher: {', '.join(parts)} differ; "
        "put the same files on every machine, or give `teacher.revision`"
    )
