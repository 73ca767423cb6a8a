"""`stillroom inspect`: what a cache holds, or several together, and one sample with its spans marked in the text."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.filesize import decimal
from rich.table import Table

from jobs.report.costs import costs_table
from jobs.report.marks import Marks, learnt_characters, mark
from jobs.report.templates import describe_template
from jobs.report.turns import turn_of, turns_table
from schemas.cache.codec import CODECS
from schemas.cache.codec_files import CODEC_FOLDER
from schemas.cache.conversations import ConversationsRecord
from schemas.cache.learnt import LearntRecord, sum_learnt
from schemas.cache.manifest import INDEX, TEACHER
from schemas.cache.reader import Cache
from schemas.cache.samples import CachedSample
from schemas.cache.sections import list_sections
from schemas.cache.shard import ShardRecord, bytes_of
from schemas.cache.union import CacheUnion, open_readable
from schemas.console import make_console
from schemas.errors import ConfigError
from schemas.shown import counted, percent


def show_caches(paths: Sequence[Path], sample_id: str | None, max_tokens: int | None = None) -> None:
    """Print a cache's identity, its arrays with their sizes, and one sample; or what each of several brings when they
    are read as one. Raises CacheError, and ConfigError for `max_tokens`, at which students cut."""
    if max_tokens is not None:
        raise ConfigError("--max-tokens is where a student's samples are cut: give --student too, or leave it out")
    cache, console = open_readable(paths), make_console()
    if isinstance(cache, Cache):
        _show_cache(console, cache)
    elif isinstance(cache, CacheUnion):
        console.print(_shares(cache))
    _show_sample(console, cache.sample(cache.position(sample_id) if sample_id is not None else 0))


def _show_cache(console: Console, cache: Cache) -> None:
    records = list(cache.records(range(cache.manifest.units)))
    console.print(_summary(cache, records))
    console.print(_arrays(cache, records))
    if encoded := [array.path for array in cache.manifest.arrays if any(array.path in r.costs for r in records)]:
        costs = [(path, [record.costs[path] for record in records if path in record.costs]) for path in encoded]
        console.print(costs_table(costs))


def _shares(union: CacheUnion) -> Table:
    """What each cache brings: a sample that stands in several counts where it is read."""
    table = Table("cache", "fingerprint", "samples", "of them read", "tokens read", pad_edge=False)
    counts, first = union.count(), 0
    for cache, count in zip(union.caches, counts, strict=True):
        tokens = union.tokens[first : first + count].sum()
        table.add_row(str(cache), cache.fingerprint[:16], f"{len(cache):,}", f"{count:,}", f"{tokens:,}")
        first += count
    table.add_section()
    every = sum(map(len, union.caches))
    table.add_row("together", "", f"{every:,}", f"{len(union):,}", f"{union.tokens.sum():,}")
    return table


def _summary(cache: Cache, records: list[ShardRecord]) -> Table:
    manifest, teacher = cache.manifest, cache.manifest.teacher
    shards = sum(file.bytes for record in records for file in record.files.values())
    codecs = [file for s in list_sections(cache.path, manifest) for file in (s.folder / CODEC_FOLDER).rglob("*")]
    kept = sum(
        file.stat().st_size
        for file in [cache.path / INDEX, *(cache.path / TEACHER).rglob("*"), *codecs]
        if file.is_file()
    )
    tokens = int(cache.tokens.sum())
    rate = f"{shards / tokens:,.0f} bytes per token" if tokens else f"{shards / len(cache):,.0f} bytes per sample"
    head = teacher.head
    refused = f"{manifest.corpus.refused} refused, " if manifest.conversations else ""
    refused += f"{manifest.corpus.repeated:,} repeated, " if manifest.corpus.repeated else ""
    rows = {
        "cache": f"{manifest.format} {manifest.version}, fingerprint {manifest.fingerprint[:16]}",
        "teacher": f"{teacher.model} ({teacher.kind}), {teacher.num_layers} layers x {teacher.hidden_size}, "
        f"vocabulary {teacher.vocab_size:,}",
        **({} if teacher.quantisation is None else {"quantisation": teacher.quantisation}),
        "head": "none"
        if head is None
        else f"{head.dtype}, scale {head.scale:g}, "
        + (f"soft-cap {head.softcap:g}" if head.softcap else "no soft-cap"),
        "annotator": manifest.annotator,
        "samples": f"{len(cache):,} in {counted(manifest.units, 'shard')}; left out: {manifest.corpus.empty} empty, "
        f"{refused}{sum(record.overlong for record in records)} overlong; "
        f"cut: {sum(record.truncated for record in records)}",
        **_conversations(manifest.conversations, sum_learnt([record.learnt for record in records])),
        "tokens": _tokens(cache, records) if tokens else "none are kept",
        "size": f"{decimal(shards)} in shards ({rate}), {decimal(kept)} beside",
    }
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold")
    for name, value in rows.items():
        table.add_row(name, value)
    return table


def _conversations(record: ConversationsRecord | None, learnt: LearntRecord | None) -> dict[str, str]:
    if record is None:
        return {}
    counts = "" if learnt is None else f"{learnt.turns:,} turns, "
    fields = {name: getattr(record, name) for name in ("field", "tools", "system", "date")}
    given = "".join(f", {name} {json.dumps(value, ensure_ascii=False)}" for name, value in fields.items() if value)
    parts = {"reasoning": record.reasoning, "tool calls": record.tool_calls}
    chosen = ", ".join(f"{name} {'learnt' if learns else 'not learnt'}" for name, learns in parts.items())
    found = "" if learnt is None else f"; {learnt.targets:,} with {learnt.tokens:,} tokens"
    answers = "all answers" if record.targets == "all" else "the last answer of each"
    return {
        "conversations": f"{counts}layout {record.layout}{given}",
        "template": describe_template(record.template, record.arguments),
        "targets": f"{answers}, {chosen}{found}",
    }


def _tokens(cache: Cache, records: list[ShardRecord]) -> str:
    tokens, longest = int(cache.tokens.sum()), int(cache.tokens.max())
    said = f"{tokens:,}, at most {cache.manifest.teacher.max_tokens:,} per sample (longest {longest:,})"
    if cache.manifest.rows == "all":
        return said
    kept = sum(record.kept or 0 for record in records)
    return f"{said}; {percent(kept / tokens)} have rows: targets and the tokens before them"


def _arrays(cache: Cache, records: list[ShardRecord]) -> Table:
    table = Table("array", "shape", "dtype", "on disk", "size", "bytes per row", pad_edge=False)
    for array in cache.manifest.arrays:
        rows, size = sum(record.rows(array) for record in records), bytes_of(records, array)
        shape = f"[{rows:,}]" if array.width is None else f"[{rows:,}, {array.width}]"
        on_disk = f"{CODECS.find(array.encoding).stored(array, 1)[0]} {array.encoding}"
        table.add_row(array.path, shape, array.dtype, on_disk, decimal(size), f"{size / max(1, rows):,.1f}")
    return table


def _show_sample(console: Console, sample: CachedSample) -> None:
    learnt, marks = learnt_characters(len(sample.text), sample.targets), _phrase_marks(sample)
    messages = len({turn.message for turn in sample.turns})
    turns = f"{counted(messages, 'turn')}, {counted(len(sample.targets), 'target')}, " if sample.turns else ""
    spans = (
        f", {len(sample.token_ids):,} tokens, {turns}{len(sample.words)} words, {len(sample.noun_phrases)} noun and "
        f"{len(sample.verb_phrases)} verb phrases; shown: [noun phrase], {{verb phrase}}, what is not learnt dim"
    )
    said = f"\nsample {sample.id}: {len(sample.text):,} characters{spans if len(sample.token_ids) else ''}"
    console.print(said, soft_wrap=True)
    if sample.turns:
        turns_C = turn_of(len(sample.text), sample.turns)
        console.print(turns_table(sample.text, sample.turns, turns_C, learnt, marks))
    else:
        console.print(mark(sample.text, learnt, marks))


def _phrase_marks(sample: CachedSample) -> Marks:
    opens: dict[int, str] = {}
    closes: dict[int, str] = {}
    for spans, left, right in ((sample.noun_phrases, "[", "]"), (sample.verb_phrases, "{", "}")):
        for start, end in np.asarray(spans).tolist():
            opens[start] = opens.get(start, "") + left
            closes[end] = right + closes.get(end, "")
    return {place: (closes.get(place, ""), opens.get(place, "")) for place in opens.keys() | closes.keys()}
