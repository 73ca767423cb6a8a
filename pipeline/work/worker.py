"""The work of a worker: annotating a unit, and running the teacher over it. Knows nothing of Ray.

The states of a unit are held once, in memory, between the forward pass and the disk:
unit_tokens * (sum of all array widths) * bytes per number; twice that, because writing overlaps the next pass.
"""

import shutil
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import numpy as np
import torch

from pipeline.annotation.tokens import tokenize
from pipeline.corpus.sample import NO_SPANS, Sample
from pipeline.encoding.unit import UnitEncoder
from pipeline.output.codecs import needs_calibration
from pipeline.output.elsewhere import bring_folders, join_output
from pipeline.output.resume import LOCK
from pipeline.output.shards import as_cached
from pipeline.replay.canary import prove_stored
from pipeline.replay.compare import Comparison
from pipeline.request.folders import ModelFolders, hash_teacher
from pipeline.teacher.batching import BatchRule, batches
from pipeline.teacher.check import TOLERANCE
from pipeline.teacher.files import save_teacher_files
from pipeline.teacher.head import teacher_head
from pipeline.teacher.run import Teacher
from pipeline.teacher.wanted import WantedStates
from pipeline.work.annotate import AnnotatedUnit, annotated_sample, job_tokenizer
from pipeline.work.calibration import calibrate
from pipeline.work.job import Job, differs_from_driver, local_folders
from pipeline.work.pairing import require_same_samples
from schemas.cache.encoding_cost import EncodingCost
from schemas.cache.halved import HalvedBatch
from schemas.cache.hollow import bring_shard
from schemas.cache.manifest import MANIFEST, TEACHER, read_manifest
from schemas.cache.sections import Section, list_sections
from schemas.cache.shard import ShardRecord, read_shard
from schemas.cache.states import Values
from schemas.cache.writer import write_shard
from schemas.errors import CacheError, ResourceError
from schemas.storage.lock import read_token

OFFLOADED = "offloaded"  # beside it, while it is at work, what a spread teacher must write to disk
TEACHER_PARTS = ("weights", "config", "code", "tokenizer", "adapter")  # each has its hash in a cache's identity


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
    began: float = 0.0  # the forward pass
    positions: int = 0  # of all batches, padding too
    bytes: int = 0  # of the files that were written


@dataclass
class _ForwardPass:
    """What is noted while the teacher runs over a unit."""

    began: float = 0.0  # seconds since 1970
    seconds: float = 0.0
    batches: list[tuple[float, int]] = field(default_factory=list)  # when each was done, and its tokens
    halved: list[HalvedBatch] = field(default_factory=list)

    def report(
        self, records: Sequence[ShardRecord], unit: AnnotatedUnit, rule: BatchRule, write_seconds: float
    ) -> UnitReport:
        """The report of a unit whose shards are committed."""
        (first_batch, first_tokens), (last_batch, _) = (
            (self.batches[0], self.batches[-1]) if self.batches else ((0.0, 0), (0.0, 0))
        )
        return UnitReport(
            records[0],
            tokens=sum(tokens for _, tokens in self.batches),
            first_batch=first_batch,
            first_tokens=first_tokens,
            last_batch=last_batch,
            forward_seconds=self.seconds,
            write_seconds=write_seconds,
            halved=len(self.halved),
            began=self.began,
            positions=_positions([len(sample.token_ids) for sample in unit.samples], rule),
            bytes=sum(record.file_bytes for record in records),
        )


class TeacherWorker:
    """One teacher. Two threads may call `run`: the forward pass is one at a time, and writing goes on beside it."""

    def __init__(self, job: Job):
        self._job = job = job if job.url is None else replace(job, cache=join_output(job.url))
        self._rule = BatchRule.of(job.config)
        self._forward = threading.Lock()
        self._teacher: Teacher | None = None
        self._encoding = threading.Lock()
        self._encoders = dict[int, UnitEncoder]()  # by the number of a section
        self._sections = job.sections
        made = {array.path for section in self._sections for array in section.manifest.arrays}
        self._manifest = job.manifest.of_arrays([array for array in job.manifest.arrays if array.path in made])
        self._proven = set[int]()  # sections of which what is stored is what the teacher gives for a sample alone
        self._batches: dict[int, tuple[int, int]] = {}
        self._passed = 0.0  # when the last forward pass was done, by the monotonic clock
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
        for section in self._sections:
            if save_files and needs_calibration(section.folder, section.manifest):
                self._calibrate(section, teacher, calibration)

    def _calibrate(self, section: Section, teacher: Teacher, samples: Sequence[Sample]) -> None:
        job = self._job
        tokenized, _ = tokenize(list(samples), job_tokenizer(job), job.config.teacher, job.config.corpus.overlong)
        annotated = [annotated_sample(sample, NO_SPANS, job.manifest.rows) for sample in tokenized]
        with self._forward, gpu_memory("calibrating its codecs"):
            calibrate(section.folder, section.manifest, teacher, annotated, self._rule, self._owner)

    def run(self, unit: AnnotatedUnit) -> UnitReport:
        """States of one unit, committed. A shard that is there already is left alone.

        Raises ModelError for non-finite states, and where the first unit does not hold what the teacher gives for
        samples alone; ResourceError if memory of the GPU or space on the disk runs out; CacheError if arrays are to be
        added to a shard that is damaged, or holds other samples.
        """
        for section in list_sections(self._job.cache, self._job.manifest):
            bring_shard(section.folder, unit.number)
        missing = [section for section in self._sections if not section.shard(unit.number).exists()]
        if not missing:
            first = self._sections[0]
            record = read_shard(first.shard(unit.number), first.manifest.fingerprint_of(unit.number))
            self._leave(unit.number)
            return UnitReport(record, record.tokens, bytes=record.file_bytes)
        passed = _ForwardPass()
        try:
            made = self._run_forward(unit, passed)
            started = time.monotonic()
            packed, packing = self._load().pack(made)
            records = [self._write(section, unit, packed, packing, passed) for section in missing]
        finally:
            self._batches.pop(unit.number, None)
        self._leave(unit.number)
        return passed.report(records, unit, self._rule, time.monotonic() - started)

    def _write(
        self,
        section: Section,
        unit: AnnotatedUnit,
        packed: Mapping[str, Values],
        packing: Mapping[str, EncodingCost],
        passed: "_ForwardPass",
    ) -> ShardRecord:
        """Commit the shard of one section, of a unit's packed arrays and what packing cost."""
        own = {array.path: packed[array.path] for array in section.manifest.arrays}
        stored, encoding = self._encode(section, own)
        self._prove_stored(section, unit, stored)
        job = self._job
        texts = None
        if not section.holds_texts:
            texts = require_same_samples(list_sections(job.cache, job.manifest)[0], unit)
        return write_shard(
            section.folder,
            unit.number,
            [as_cached(sample) for sample in unit.samples],
            stored,
            section.manifest.arrays,
            section.manifest.fingerprint_of(unit.number),
            unit.counts.overlong,
            self._owner,
            passed.halved,
            {path: cost for path, cost in packing.items() if path in own} | encoding,
            texts,
        )

    def _leave(self, unit: int) -> None:
        """Shards that are published are left to the driver of this machine; where there is none, nobody needs them."""
        if self._job.url is not None and not (self._job.cache / LOCK).exists():
            for section in list_sections(self._job.cache, self._job.manifest):
                shutil.rmtree(section.shard(unit), ignore_errors=True)

    def _run_forward(self, unit: AnnotatedUnit, passed: "_ForwardPass") -> dict[str, np.ndarray]:
        """What the teacher makes of a unit, and in `passed` when and how. Beside its last batch another begins."""

        def on_batch(samples: int, tokens: int) -> None:
            before = self._batches.get(unit.number, (0, 0))
            self._batches[unit.number] = (before[0] + samples, before[1] + tokens)
            passed.batches.append((time.time(), tokens))

        def on_halved(samples: int, tokens: int) -> None:
            passed.halved.append(HalvedBatch(samples=samples, tokens=tokens))

        with self._forward:
            teacher, started = self._load(), time.monotonic()
            finish = teacher.start(unit.samples, self._rule, on_batch, on_halved)
        made, ended = finish(), time.monotonic()
        # Until then, the device was at work on the unit before.
        passed.seconds, self._passed = max(0.0, ended - max(started, self._passed)), ended
        passed.began = time.time() - passed.seconds
        return made

    def _encode(
        self, section: Section, packed: Mapping[str, Values]
    ) -> tuple[dict[str, Values], dict[str, EncodingCost]]:
        """Beside the next unit's forward pass, or alone if memory does not suffice for both."""
        try:
            return self._unit_encoder(section).encode(packed)
        except torch.OutOfMemoryError:
            with self._forward, gpu_memory("encoding a unit's states"):
                torch.cuda.empty_cache()
                return self._unit_encoder(section).encode(packed)

    def _prove_stored(self, section: Section, unit: AnnotatedUnit, stored: Mapping[str, Values]) -> None:
        """Of the first unit that has samples."""
        if section.number in self._proven:
            return
        encoder = self._unit_encoder(section)
        with self._forward, gpu_memory("proving what it stores"):
            teacher = self._load()
            noise = TOLERANCE[teacher.config.dtype]
            comparison = Comparison(section.folder, section.manifest, teacher, encoder, noise)
            if prove_stored(comparison, section.manifest.arrays, unit.samples, stored, self._rule):
                self._proven.add(section.number)

    def progress(self) -> dict[int, tuple[int, int]]:
        """Samples and tokens of the units at work, by unit. Costs nothing."""
        return dict(self._batches)

    def _load(self) -> Teacher:
        if self._teacher is None:
            job = self._job
            folders, teacher = local_folders(job), job.config.teacher
            if teacher.device == "auto":  # where Ray assigned no GPU, one may still be visible
                teacher = teacher.model_copy(update={"device": "cuda" if job.config.workers.gpus else "cpu"})
            _require_same_teacher_files(folders, job)
            with gpu_memory(f"the teacher, or one sample of {teacher.max_tokens:,} tokens"):
                wanted, scratch = WantedStates.of_cache(self._manifest), job.cache / OFFLOADED
                self._teacher = Teacher(teacher, wanted, folders.model, folders.adapter, scratch, self._owner)
        return self._teacher

    def _unit_encoder(self, section: Section) -> UnitEncoder:
        """Made of the section's codecs/, which is there before the first unit."""
        with self._encoding:
            if section.number not in self._encoders:
                teacher = self._load()
                bring_folders(self._job.cache, self._job.manifest)
                made = UnitEncoder(section.folder, section.manifest, teacher_head(teacher), teacher.device)
                self._encoders[section.number] = made
            return self._encoders[section.number]

    def _check_cache(self) -> None:
        try:
            found = read_manifest(self._job.cache).fingerprint
        except CacheError as error:
            raise ResourceError(
                f"a worker does not see {self._job.cache / MANIFEST} ({error}); the output must lie on shared storage"
            ) from error
        manifest = self._job.manifest
        if found not in (manifest.fingerprint, *(part.fingerprint for part in manifest.parts[-1:])):
            raise ResourceError(f"a worker sees another {self._job.cache}; the output must lie on shared storage")


def _positions(lengths: Sequence[int], rule: BatchRule) -> int:
    """Tokens and padding of all batches, as they are planned; one that memory makes two of has less."""
    return sum(len(batch) * lengths[batch[0]] for batch in batches(lengths, rule))


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
        raise differs_from_driver(folders.model, wrong)
