"""A probe: the teacher over a part of the corpus, timed, and its states encoded and written to a temporary cache.

Some units, spread over the corpus, are tokenized; all of them, where there are few. Of these, batches are drawn at
random and run as `extract` runs them, by one worker in this process, so what is measured is what it will do.
"""

import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory

from pipeline.annotation.tokens import Counts
from pipeline.corpus.sample import AnnotatedSample
from pipeline.request.request import Request
from pipeline.teacher.batching import BatchRule, batches
from pipeline.work.annotate import AnnotatedUnit, annotate_unit
from pipeline.work.job import Job, make_job
from pipeline.work.worker import TeacherWorker, UnitReport
from schemas.cache.arrays import ArrayRecord
from schemas.cache.codec_files import CODEC_FOLDER
from schemas.cache.manifest import TEACHER
from schemas.cache.row_units import count_pairs
from schemas.cache.shard import RECORD, SAMPLES, ShardRecord, bytes_of, shard_path
from schemas.cache.token_rows import count_rows
from schemas.cache.writer import write_manifest
from schemas.errors import CorpusError

UNITS = 64  # that are tokenized and annotated, at most: some 20 s of the usual size
SECONDS = 20.0  # of forward passes
BATCHES = 4  # that are run at a time
NOTHING_LEFT_OUT = Counts(0, 0)


@dataclass(frozen=True)
class LookedAt:
    """What some units of the plan came to."""

    samples: list[AnnotatedSample]
    estimated: int  # tokens, by the plan
    share: float  # of the corpus, by the plan's tokens
    batches: list[list[AnnotatedSample]]

    @cached_property
    def tokens(self) -> int:
        """Of the teacher, cut samples as they are."""
        return sum(len(sample.token_ids) for sample in self.samples)

    @cached_property
    def rows(self) -> int:
        """Of arrays that follow `states.rows`."""
        return sum(count_rows(sample.token_rows) for sample in self.samples)

    def pairs(self, causal: bool) -> int:
        """Of their tokens."""
        return sum(count_pairs(len(sample.token_ids), causal) for sample in self.samples)

    @cached_property
    def positions(self) -> int:
        """Tokens and padding of all batches."""
        return sum(len(batch) * max(len(sample.token_ids) for sample in batch) for batch in self.batches)


@dataclass(frozen=True)
class Probe:
    """What an extraction will come to, measured."""

    share: float  # of the corpus that was tokenized
    samples: int
    tokens: int
    positions: int  # tokens and padding
    array_rows: dict[str, int]  # by path, of all shards
    tokens_run: int  # by the teacher, for these figures
    array_bytes: dict[str, int]  # by path, of all shards
    text_bytes: int  # of samples.arrow, and what else a shard has
    teacher_bytes: int
    codec_bytes: int
    start_seconds: float  # to load the teacher, to calibrate, and to prove the first shard
    forward_seconds: float  # of one worker that does all
    write_seconds: float  # of encoding and writing, beside it

    @property
    def shard_bytes(self) -> int:
        """Of all shards."""
        return sum(self.array_bytes.values()) + self.text_bytes

    def seconds(self, workers: int) -> float:
        """From the first unit to the last, with so many workers that do not wait for each other."""
        return max(self.forward_seconds, self.write_seconds) / workers


def run_probe(request: Request, seconds: float = SECONDS, units: int = UNITS, texts: bool = True) -> Probe:
    """Measure `request` by forward passes of about that many seconds over batches of up to so many `units`, and by its
    calibration if it has one. Without `texts`, they are left out of what will be written.

    Raises what annotating, loading and running do; CorpusError if every sample that was looked at is left out.
    """
    with TemporaryDirectory(prefix="stillroom-probe-", ignore_cleanup_errors=True) as folder:
        cache = Path(folder, "cache")
        cache.mkdir()
        write_manifest(cache, request.manifest)
        job = make_job(request, cache)
        found = _look_at(request, job, units)
        started = time.monotonic()
        worker = TeacherWorker(job)
        worker.prepare(True, request.plan.calibration)
        start_seconds = time.monotonic() - started
        reports = _run(worker, found, seconds)
        return _sum_up(request, cache, found, reports, start_seconds, texts)


def _look_at(request: Request, job: Job, most: int) -> LookedAt:
    """Units at equal distances, the first and the last among them."""
    units = request.plan.units
    chosen = {units[round(place * (len(units) - 1) / max(1, most - 1))] for place in range(most)}
    skip = {unit.number for unit in units if unit not in chosen}
    found = [annotate_unit(job, unit.number, part) for unit, part in request.plan.read_units(request.corpus, skip)]
    samples = [sample for unit in found for sample in unit.samples]
    if not samples:
        raise CorpusError("no sample that was looked at is short enough: raise teacher.max_tokens")
    estimated = sum(unit.tokens for unit in chosen)
    rule = BatchRule.of(request.config)
    drawn = [batch for unit in found for batch in _batches(unit.samples, rule)]
    return LookedAt(samples, estimated, estimated / max(1, request.plan.tokens), drawn)


def _batches(samples: Sequence[AnnotatedSample], rule: BatchRule) -> list[list[AnnotatedSample]]:
    lengths = [len(sample.token_ids) for sample in samples]
    return [[samples[place] for place in batch] for batch in batches(lengths, rule)]


def _run(worker: TeacherWorker, found: LookedAt, seconds: float) -> list[UnitReport]:
    """Batches in an order of chance until they have taken `seconds`; the first of them warm up, and do not count."""
    order = random.Random(0).sample(found.batches, len(found.batches))
    reports = list[UnitReport]()
    for number, start in enumerate(range(0, len(order), BATCHES)):
        some = [sample for batch in order[start : start + BATCHES] for sample in batch]
        reports.append(worker.run(AnnotatedUnit(number, some, NOTHING_LEFT_OUT)))
        if sum(report.forward_seconds for report in reports[1:]) > seconds:
            break
    return reports


def _sum_up(
    request: Request,
    cache: Path,
    found: LookedAt,
    reports: Sequence[UnitReport],
    start_seconds: float,
    with_texts: bool,
) -> Probe:
    plan, records = request.plan, [report.record for report in reports]
    timed = reports[1:] or reports
    longer = plan.tokens / max(1, found.estimated)  # the corpus, in parts that were looked at
    tokens, rows, positions = (round(longer * each) for each in (found.tokens, found.rows, found.positions))
    samples = round(longer * len(found.samples))
    scale = positions / sum(report.positions for report in timed)
    arrays = request.manifest.arrays
    counts = {"samples": samples, "tokens": tokens, "kept": rows, "pairs": round(longer * found.pairs(request.causal))}
    array_rows = {array.path: counts[array.unit] for array in arrays}
    sizes = {array.path: round(_bytes_per_row(records, array) * array_rows[array.path]) for array in arrays}
    kept, run = sum(record.tokens for record in records), sum(record.samples for record in records)
    texts = sum(record.files[SAMPLES].bytes for record in records) * (tokens / kept if kept else samples / run)
    first = shard_path(cache, records[0].unit)
    beside = sum(file.bytes for name, file in records[0].files.items() if name.endswith(".json"))
    return Probe(
        share=found.share,
        samples=samples,
        tokens=tokens,
        positions=positions,
        array_rows=array_rows,
        tokens_run=sum(report.tokens for report in timed),
        array_bytes=sizes,
        text_bytes=(round(texts) if with_texts else 0) + len(plan.units) * (beside + (first / RECORD).stat().st_size),
        teacher_bytes=_size(cache / TEACHER),
        codec_bytes=_size(cache / CODEC_FOLDER),
        start_seconds=start_seconds + _proof_seconds(reports),
        forward_seconds=scale * sum(report.forward_seconds for report in timed),
        write_seconds=scale * sum(report.write_seconds for report in timed),
    )


def _proof_seconds(reports: Sequence[UnitReport]) -> float:
    """What writing the first shard took longer than writing as much of the others: it is proven. 0 for a single one."""
    first, *others = reports
    positions = sum(report.positions for report in others)
    usual = sum(report.write_seconds for report in others) * first.positions / positions if positions else 0.0
    return max(0.0, first.write_seconds - usual) if others else 0.0


def _bytes_per_row(records: Sequence[ShardRecord], array: ArrayRecord) -> float:
    return bytes_of(records, array) / sum(record.rows(array) for record in records)


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
