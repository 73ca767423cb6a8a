"""The runs of a sweep in one table: what differs, the last loss, and what was measured on held-out material.

table.csv   a line for each run, with every field that differs in a column of its own
table.md    the table as it is shown, a line for each variant: means and sample standard deviations over its seeds
curves.png  as `stillroom compare` draws them, if the runs were evaluated
"""

import csv
import io
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table

from jobs.report.runs import Group, Run, load_run
from schemas.errors import RunError
from schemas.shown import printable
from schemas.storage.atomic import disk_full, write_text
from trainer.evaluation.metric import Metric
from trainer.runs.metrics import FILE, read_metrics
from trainer.runs.record import RECORD

OTHER_METRICS = "Runs were measured by different metrics, which table.csv has."
CSV, MARKDOWN, PICTURE = "table.csv", "table.md", "curves.png"


@dataclass(frozen=True)
class Entry:
    """One run, as the sweep knows it and as its folder tells."""

    name: str
    variant: str
    seed: int
    differs: Mapping[str, str]
    finished: bool
    problem: str | None
    step: int | None  # of the last report
    loss: float | None  # the last
    measured: Run | None  # None if it was never evaluated


def read_entry(
    folder: Path, variant: str, seed: int, differs: Mapping[str, str], finished: bool, problem: str | None
) -> Entry:
    """What the run in `folder` came to; a run without a folder came to nothing yet. Raises RunError if it is damaged
    and nothing is said about it."""
    lines, measured = list[dict[str, float]](), None
    try:
        if (folder / RECORD).exists() and (folder / FILE).exists():
            lines = read_metrics(folder)
            measured = load_run(folder)
    except RunError:  # it was never evaluated, or what is wrong with it is its problem
        if finished and not lines:
            raise
    last = next((line for line in reversed(lines) if "loss" in line), None)
    step, loss = (int(last["step"]), last["loss"]) if last else (None, None)
    return Entry(folder.name, variant, seed, differs, finished, problem, step, loss, measured)


def sweep_table(entries: Sequence[Entry]) -> Table:
    """A row for each variant: of runs that were evaluated the best first, then those that were not."""
    metric = _metric(entries)
    headings = ["seeds", "step", "loss", *([metric.heading, "± std"] if metric else [])]
    table = Table(title=metric.title if metric else None, title_justify="left", caption_justify="left")
    table.add_column("run", overflow="fold")
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    for row in _rows(entries, metric):
        table.add_row(*row)
    kinds = {entry.measured.metric.name for entry in entries if entry.measured}
    problems = [f"{entry.name}: {entry.problem}" for entry in entries if entry.problem]
    table.caption = "\n".join(([OTHER_METRICS] if len(kinds) > 1 else []) + problems) or None
    return table


def write_tables(folder: Path, entries: Sequence[Entry]) -> list[Path]:
    """Write table.csv and table.md, and curves.png where there are curves; returns what was written.

    Raises ResourceError if the disk is full.
    """
    metric = _metric(entries)
    with disk_full("the table", folder):
        write_text(folder / CSV, _csv(entries))
        write_text(folder / MARKDOWN, _markdown(entries, metric))
    groups = [group for name in _variants(entries) if (group := _group(entries, name)) is not None]
    if metric is None or not groups:
        return [folder / CSV, folder / MARKDOWN]
    from jobs.report.curves import draw_curves  # matplotlib takes a second to import

    groups.sort(key=lambda group: (metric.rank(statistics.fmean(group.last)), group.name))
    draw_curves(groups, {}, folder / PICTURE)
    return [folder / CSV, folder / MARKDOWN, folder / PICTURE]


def _metric(entries: Sequence[Entry]) -> Metric | None:
    """The metric of all runs that were evaluated, if it is one."""
    found = {entry.measured.metric.name: entry.measured.metric for entry in entries if entry.measured}
    return next(iter(found.values())) if len(found) == 1 else None


def _variants(entries: Sequence[Entry]) -> list[str]:
    return list(dict.fromkeys(entry.variant for entry in entries))


def _group(entries: Sequence[Entry], variant: str) -> Group | None:
    """The evaluated runs of a variant, if they were evaluated at one step."""
    group = Group(variant, tuple(e.measured for e in entries if e.variant == variant and e.measured))
    return group if group.runs and group.steps else None


def _rows(entries: Sequence[Entry], metric: Metric | None) -> list[list[str]]:
    rows = []
    for place, variant in enumerate(_variants(entries)):
        own = [entry for entry in entries if entry.variant == variant]
        group = _group(entries, variant) if metric else None
        mean = statistics.fmean(group.last) if group else None
        rank = (0.0, metric.rank(mean)) if metric and mean is not None else (1.0, float(place))
        rows.append((rank, _row(variant, own, group, metric)))
    return [row for _, row in sorted(rows, key=lambda row: row[0])]


def _row(variant: str, own: Sequence[Entry], group: Group | None, metric: Metric | None) -> list[str]:
    done = sum(entry.finished for entry in own)
    failed = sum(entry.problem is not None for entry in own)
    losses = [entry.loss for entry in own if entry.loss is not None]
    steps = sorted({entry.step for entry in own if entry.step is not None})
    state = f" ({failed} failed)" if failed else "" if done == len(own) else " (unfinished)"
    figures = [metric.show(statistics.fmean(group.last)) if metric and group else ""]
    figures.append(metric.show(group.spread) if metric and group and len(group.runs) > 1 else "")
    return [
        variant + state,
        str(len(own)) if done == len(own) else f"{done}/{len(own)}",
        "–".join(map(str, dict.fromkeys((steps[0], steps[-1])))) if steps else "",
        f"{statistics.fmean(losses):.4f}" if losses else "",
        *(figures if metric else []),
    ]


def _csv(entries: Sequence[Entry]) -> str:
    fields = list(dict.fromkeys(field for entry in entries for field in entry.differs))
    metrics = list(dict.fromkeys(entry.measured.metric.name for entry in entries if entry.measured))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["run", "variant", "seed", *fields, "finished", "step", "loss", *metrics, "problem"])
    for entry in entries:
        last = {entry.measured.metric.name: [*entry.measured.values.values()][-1]} if entry.measured else {}
        writer.writerow(
            [
                *(entry.name, entry.variant, entry.seed, *(entry.differs.get(field, "") for field in fields)),
                *(str(entry.finished).lower(), entry.step, entry.loss),
                *(last.get(name, "") for name in metrics),
                entry.problem or "",
            ]
        )
    return text.getvalue()


def _markdown(entries: Sequence[Entry], metric: Metric | None) -> str:
    headings = ["run", "seeds", "step", "loss", *([metric.heading, "± std"] if metric else [])]
    lines = [headings, ["---"] + ["---:"] * (len(headings) - 1), *_rows(entries, metric)]
    text = "".join("| " + " | ".join(printable(cell).replace("|", "\\|") for cell in line) + " |\n" for line in lines)
    problems = "".join(f"- {printable(e.name)}: {printable(e.problem)}\n" for e in entries if e.problem)
    return text + (f"\nFailed:\n\n{problems}" if problems else "")
