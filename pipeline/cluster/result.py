"""The result of an extraction: counts over the whole cache, and the speed of this call."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline.cluster.figures import Figures, Tally, make_figures
from pipeline.corpus.conversations import ConversationCounts
from pipeline.request.request import Request
from pipeline.work.worker import UnitReport
from schemas.cache.learnt import LearntRecord
from schemas.cache.seen_shard import SeenShard
from schemas.cache.totals import ShardTotals
from schemas.errors import CorpusError


@dataclass(frozen=True)
class ExtractionResult:
    """The content of a cache, and what this call did for it."""

    cache: Path
    units: int
    samples: int
    tokens: int  # that are kept
    bytes: int
    truncated: int
    overlong: int
    empty: int
    repeated: int
    learnt: LearntRecord | None  # None if a shard of an earlier version does not say
    conversations: ConversationCounts | None  # what became of those of the corpus; None of other texts
    begin_twice: int  # that spell out the token which the tokenizer puts before every text
    left_out: tuple[tuple[Path, str], ...]  # files of the corpus that give no record, and why
    already_done: bool  # the cache was complete before
    new_units: int
    new_tokens: int  # that went through the teacher
    seconds: float
    tokens_per_second: float | None  # from first batch to last, over all workers; None if there were not two
    figures: Figures | None = None  # where the time went; None if no teacher ran


def make_result(
    request: Request,
    cache: Path,
    seen: Mapping[int, SeenShard] | ShardTotals,
    reports: dict[int, UnitReport],
    started: float,
    already_done: bool = False,
    tally: Tally | None = None,
) -> ExtractionResult:
    """Sum up the shards in `seen` and what this call did. Raises CorpusError if there is not one sample in them."""
    if isinstance(seen, ShardTotals):
        held = seen
    else:
        held = ShardTotals.of((shard.record, shard.bytes) for shard in seen.values())
    if not held.samples:
        raise CorpusError(
            f"every sample is longer than teacher.max_tokens ({request.config.teacher.max_tokens}) allows, and {cache} "
            "is empty: delete it, and raise that or set corpus.overlong to truncate"
        )
    return ExtractionResult(
        cache=cache,
        units=held.units,
        samples=held.samples,
        tokens=held.tokens,
        bytes=held.bytes,
        truncated=held.truncated,
        overlong=held.overlong,
        empty=request.plan.corpus.empty,
        repeated=request.plan.corpus.repeated,
        learnt=held.learnt,
        conversations=request.plan.conversations,
        begin_twice=request.plan.begin_twice,
        left_out=request.left_out,
        already_done=already_done,
        new_units=len(reports),
        new_tokens=sum(report.tokens for report in reports.values()),
        seconds=time.monotonic() - started,
        tokens_per_second=_steady_rate([report for report in reports.values() if report.first_batch]),
        figures=None if tally is None or not reports else make_figures(reports, tally),
    )


def _steady_rate(reports: list[UnitReport]) -> float | None:
    """Tokens per second from the end of the first batch to the end of the last: no start-up, no loading."""
    if not reports:
        return None
    first = min(reports, key=lambda report: report.first_batch)
    seconds = max(report.last_batch for report in reports) - first.first_batch
    tokens = sum(report.tokens for report in reports) - first.first_tokens
    return tokens / seconds if seconds > 0 else None
