"""`stillroom extract`, `extend`, `plan` and `reindex`. As a job: `ray job submit ... -- stillroom extract X.yaml`."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.filesize import decimal
from rich.table import Table

from jobs.report.conversations import describe_losses
from pipeline.corpus.outside import require_outside
from schemas.cache.arrays import ArrayRecord
from schemas.cache.manifest import read_manifest
from schemas.configs.extraction import ExtractionConfig, WorkersConfig
from schemas.configs.yaml import load_config
from schemas.console import make_console, say
from schemas.shown import counted, percent
from schemas.storage.remote import named
from schemas.texts.files import find_files

if TYPE_CHECKING:
    from pipeline.cluster.result import ExtractionResult
    from pipeline.corpus.plan import Plan
    from pipeline.output.missing import Missing
    from pipeline.request.request import Request
    from pipeline.work.probe import Probe


def run_extraction(path: Path, overrides: Sequence[str]) -> None:
    """Extract, then say what the cache holds and how fast it went."""
    config = _read(path, overrides)
    from pipeline.cluster.extract import extract

    _say_result(extract(config))


def run_extension(path: Path, overrides: Sequence[str]) -> None:
    """Add what the corpus has gained, then say the same."""
    config = _read(path, overrides)
    from pipeline.cluster.extract import extend

    _say_result(extend(config))


def _say_result(result: "ExtractionResult") -> None:
    for name, files in _left_out(result.left_out).items():
        say(f"{name}: {files}")
    if result.already_done:
        say(f"{result.cache} is complete already; nothing to do")
    elif not result.new_units:
        say(f"{result.cache}: every shard was there already; what was missing beside them is written")
    tokens = f"{result.tokens:,} tokens, " if result.tokens else ""  # none where only sentence embeddings are kept
    held = f"{result.samples:,} samples, {tokens}{decimal(result.bytes)} in {counted(result.units, 'shard')}"
    refused = f"{result.conversations.refused:,} refused, " if result.conversations else ""
    refused += f"{result.repeated:,} repeated, " if result.repeated else ""
    say(f"{held}; left out: {result.empty:,} empty, {refused}{result.overlong:,} overlong; cut: {result.truncated:,}")
    if result.conversations is not None and result.learnt is not None:
        learnt, share = result.learnt, percent(result.learnt.tokens / max(1, result.tokens))
        targets = f"{learnt.targets:,} targets, {learnt.tokens:,} tokens in them ({share})"
        say(f"conversations: {learnt.turns:,} turns, {targets}")
    for name, said in describe_losses(result.conversations).items():
        say(f"{name}: {said}")
    if result.begin_twice:
        say(_begin_twice(result.begin_twice))
    if result.figures is not None:
        from jobs.report.extraction import figures_table

        make_console().print(figures_table(result))
    if result.new_units:
        rate = result.tokens_per_second
        teacher = "" if rate is None else f", start and end included; {rate:,.0f} tokens/s while the teacher ran"
        say(f"{result.new_tokens:,} tokens in {result.seconds:.0f} s{teacher}; {result.cache}")


def show_plan(path: Path, overrides: Sequence[str], probe: bool = False) -> None:
    """Print what `extract` would do. Starts no Ray and writes nothing, and runs the teacher only to `probe` it."""
    config = _read(path, overrides)
    from pipeline.output.elsewhere import seen_from_outside

    with seen_from_outside(config.output, weights=False) as cache:
        _show_plan(config, cache, probe)


def _show_plan(config: ExtractionConfig, cache: Path, probe: bool) -> None:
    from jobs.report.plan import sizes_table
    from pipeline.output.missing import request_at_output

    request, there = request_at_output(config, cache)
    missing = None if isinstance(there, str) else there
    found = _probe(request) if probe and missing is None else None
    plan, manifest = request.plan, request.manifest
    arrays = ", ".join(f"{array.path} ({_kept_as(array)})" for array in manifest.arrays)
    rows = {
        "output": named(str(request.config.output)),
        "files": _files(request.corpus.files),
        **_left_out(request.left_out),
        **({"note": _begin_twice(plan.begin_twice)} if plan.begin_twice else {}),
        "teacher": f"{manifest.teacher.model} ({manifest.teacher.kind}), {manifest.teacher.num_layers} layers",
        **({} if manifest.teacher.quantisation is None else {"quantisation": manifest.teacher.quantisation}),
        "arrays": arrays,
        "annotator": manifest.annotator,
        **_samples(plan),
        "units": f"{len(plan.units):,} of about {request.config.batching.unit_tokens:,} tokens",
        "tokens": (f"about {_tokens(plan, missing):,}" if found is None else f"{found.tokens:,}, {_measured(found)}")
        + (_targets(plan) if plan.conversations else ""),
        "on disk": _on_disk(request, found, missing),
        **({} if missing is None else _foreseen(missing)),
        "workers": _workers(config.workers),
        **({} if found is None else _times(request, found)),
        **({} if missing is None else _to_do(missing, probe)),
        **({"refused": named(f"{request.config.output} is there: {there}")} if isinstance(there, str) else {}),
        "fingerprint": manifest.fingerprint,
    }
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold")
    for name, value in rows.items():
        table.add_row(name, value)
    make_console().print(table)
    if missing is not None and missing.forecast.shards:
        make_console().print(sizes_table(request, *missing.forecast.arrays()))
    else:
        make_console().print(sizes_table(request, *(() if found is None else (found.array_rows, found.array_bytes))))


def _probe(request: "Request", texts: bool = True) -> "Probe":
    from pipeline.work.probe import run_probe

    return run_probe(request, texts=texts)


def _to_do(missing: "Missing", probe: bool) -> dict[str, str]:
    """Of a cache that was begun, or that is to be extended: what is not there yet, which a probe measures alone."""
    units, request = missing.units, missing.request
    if not units:
        return {"still to do": "nothing: all its shards are there"}
    paths = [array.path for array in missing.arrays]
    arrays = f" ({', '.join(paths)})" if len(paths) < len(request.manifest.arrays) else ""
    todo = f"{len(units):,} of {len(request.plan.units):,} units{arrays}, "
    texts = any(section.holds_texts for section in missing.sections)
    if not probe:
        tokens, size = missing.forecast.tokens(units), missing.predict_bytes() + missing.bytes_beside()
        return {"still to do": f"{todo}about {tokens:,} tokens, about {decimal(size)}"}
    found = _probe(missing.as_request(), texts)
    size = found.shard_bytes + found.codec_bytes
    return {"still to do": f"{todo}{found.tokens:,} tokens, about {decimal(size)}", **_times(request, found)}


def _tokens(plan: "Plan", missing: "Missing | None") -> int:
    return plan.tokens if missing is None else missing.forecast.tokens(plan.units)


def _foreseen(missing: "Missing") -> dict[str, str]:
    """By what tokens and bytes are foreseen where shards of this request are there."""
    forecast = missing.forecast
    if not forecast.shards or not missing.units:
        return {}
    share = f"{forecast.share:.3g} of the bytes that are foreseen without any"
    return {"foreseen": f"from the shards that are there ({forecast.shards:,}), with {share}"}


def _measured(probe: "Probe") -> str:
    return "counted" if probe.share >= 1 else f"as counted in {percent(probe.share)} of the corpus"


def _on_disk(request: "Request", probe: "Probe | None", missing: "Missing | None") -> str:
    """In all, and of that what lies beside the shards."""
    from pipeline.output.disk import codec_bytes, teacher_bytes

    if probe is None:
        teacher, codecs = teacher_bytes(request.manifest.teacher), codec_bytes(request.manifest)
        shards = request.predict_bytes() if missing is None else missing.forecast.bytes_there + missing.predict_bytes()
    else:
        shards, teacher, codecs = probe.shard_bytes, probe.teacher_bytes, probe.codec_bytes
    beside = f", {decimal(teacher)} in teacher/" if teacher else ""
    beside += f", {decimal(codecs)} in codecs/" if codecs else ""
    measured = probe is not None or (missing is not None and missing.forecast.shards > 0)
    few = "; rather more: of so few tokens codecs learn less, `--probe` measures" if request.learns_from_less else ""
    return f"about {decimal(shards + teacher + codecs)}: {decimal(shards)} in shards{beside}{'' if measured else few}"


def _workers(workers: WorkersConfig) -> str:
    gpus = f" and {counted(workers.gpus, 'GPU')}" if workers.gpus else ""
    return f"{workers.count:,}, each with {counted(workers.cpus, 'CPU')}{gpus}"


def _times(request: "Request", probe: "Probe") -> dict[str, str]:
    """What was measured here, and what it makes of the whole corpus."""
    workers = request.config.workers.count
    rate = probe.tokens / probe.forward_seconds
    alone = f"{probe.forward_seconds / 3600:,.2f} teacher hours"
    calibrate = ", calibrate" if probe.codec_bytes else ""
    start = f"{_hours(probe.start_seconds)} to load{calibrate} and prove the first shard"
    return {
        "teacher here": f"{rate:,.0f} tokens/s over {probe.tokens_run:,} tokens; "
        f"{percent(1 - probe.tokens / probe.positions)} padding",
        "time": f"{start}, then {_hours(probe.seconds(workers))} on {workers:,} of these ({alone}; writing "
        f"{_hours(probe.write_seconds / workers)} beside them)",
    }


def _hours(seconds: float) -> str:
    return f"{seconds:,.0f} s" if seconds < 600 else f"{seconds / 3600:,.2f} h"


def _samples(plan: "Plan") -> dict[str, str]:
    counts, repeated = plan.conversations, f", {plan.corpus.repeated:,} repeated" if plan.corpus.repeated else ""
    if counts is None:
        return {"samples": f"{plan.samples:,} ({plan.corpus.empty:,} empty{repeated} left out)"}
    said = f"{plan.samples:,} with {counts.turns:,} turns and {counts.targets:,} targets"
    left_out = f"left out: {plan.corpus.empty:,} empty, {counts.refused:,} refused{repeated}"
    return {"conversations": f"{said}; {left_out}"} | describe_losses(counts)


def _targets(plan: "Plan") -> str:
    return f"; targets: about {plan.target_tokens:,} ({percent(plan.learnt)})"


def _begin_twice(samples: int) -> str:
    return (
        f"{samples:,} samples begin twice: their text spells out the beginning of sequence (BOS) that the teacher's "
        "tokenizer adds as well; take it out of the template or the texts"
    )


def _read(path: Path, overrides: Sequence[str]) -> ExtractionConfig:
    """The config; mistakes in it and in the names of its files are told before seconds of importing libraries."""
    config = load_config(path, ExtractionConfig, overrides)
    require_outside(config.output, config.corpus.files)
    find_files(config.corpus.files)
    return config


MOST_FILES = 8  # that are named


def _files(files: Sequence[Path]) -> str:
    rest = f", … ({len(files):,} files)" if len(files) > MOST_FILES else ""
    return ", ".join(map(str, files[:MOST_FILES])) + rest


def _left_out(files: Sequence[tuple[Path, str]]) -> dict[str, str]:
    """The files of a corpus that look like data and give no record."""
    rest = f", … ({len(files):,} files)" if len(files) > MOST_FILES else ""
    named = ", ".join(f"{path} ({why})" for path, why in files[:MOST_FILES])
    return {"files left out": named + rest} if files else {}


def _kept_as(array: ArrayRecord) -> str:
    return array.dtype if array.encoding in ("raw", "zstd") else f"{array.dtype}, {array.encoding}"


def rebuild_index(path: Path) -> None:
    """Make index.parquet anew from the shards, where the cache lies."""
    from pipeline.output.elsewhere import read_begun, working_folder
    from pipeline.output.resume import brought
    from pipeline.output.seal import seal_again

    read_begun(path)  # first: what is no cache is left as it is
    with brought(working_folder(path), say) as cache:
        samples = seal_again(cache, read_manifest(cache))
    say(f"{path}: index of {samples:,} samples")
