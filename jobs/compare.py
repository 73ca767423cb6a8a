"""`stillroom compare`: a table of what was measured on held-out material and a picture of the curves; runs that differ
in nothing but their seed are one row."""

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.table import Table
from rich.text import Text

from jobs.report.runs import Group, NotMeasured, Run, group_runs, load_run
from schemas.console import make_console, say
from schemas.errors import RunError
from schemas.shown import printable
from schemas.storage.writable import require_writable

OTHER_CACHES = "These runs learned from different caches: the figures do not compare their objectives alone."
OTHER_MATERIAL = (
    "Not all of these runs are known to have been measured on the same held-out material: run.json has its hash, under "
    "`inputs`. Figures on different material do not compare."
)


def show_comparison(runs: Sequence[Path], picture: Path | None) -> None:
    """Print the table, and where the picture is."""
    make_console().print(compare_runs(runs, picture))
    if picture is not None:
        say(f"curves: {picture}")


def compare_runs(
    runs: Sequence[Path], out_png: Path | None = None, references: Mapping[str, float] | None = None
) -> Table:
    """A table by held-out bits per byte or by Spearman's correlation, whichever the runs have: mean and sample standard
    deviation over seeds, the picture in `out_png`.

    `references` are figures of models that were not trained here, such as the teacher. Runs over different caches, or
    measured on different material, are shown together and marked: their figures do not compare the objectives alone.
    Runs that were never evaluated are named below the table. Raises RunError naming the file, or the picture that
    cannot be drawn; or the first run, if none was evaluated.
    """
    if out_png is not None:
        _check_picture(out_png)
    measured, left_out = list[Run](), list[NotMeasured]()
    for folder in runs:
        try:
            measured.append(load_run(folder))
        except NotMeasured as error:
            left_out.append(error)
    if left_out and not measured:
        raise left_out[0]
    groups = group_runs(measured)
    if out_png is not None:
        from jobs.report.curves import draw_curves  # matplotlib takes a second to import

        draw_curves(groups, references or {}, out_png)
    return _table(groups, references or {}, left_out)


def _check_picture(path: Path) -> None:
    if path.suffix.lower() != ".png":
        raise RunError(f"{path}: the picture is a PNG; give it a name that ends in .png")
    require_writable(path)
    if path.is_dir():
        raise RunError(f"{path} is a folder; name a file in it")


def _table(groups: Sequence[Group], references: Mapping[str, float], left_out: Sequence[NotMeasured]) -> Table:
    fingerprints = {run.fingerprint for group in groups for run in group.runs}
    metric = groups[0].metric
    table = Table(title=metric.title, title_justify="left", caption_justify="left")
    table.add_column("run")
    for column in ("seeds", "step", metric.heading, "± std", *([metric.beside[1]] if metric.beside else [])):
        table.add_column(column, justify="right")
    notes = [f"Left out: {printable(str(error))}." for error in left_out]
    if len(fingerprints) > 1:
        table.add_column("cache")
        notes.append(OTHER_CACHES)
    if len({run.held_out for group in groups for run in group.runs}) > 1:
        notes.append(OTHER_MATERIAL)
    table.caption = Text("\n".join(notes)) if notes else None
    rows = [(statistics.fmean(group.last), _row(group, len(fingerprints) > 1)) for group in groups]
    rows += [(value, [name, "", "", metric.show(value)]) for name, value in references.items()]
    for _, row in sorted(rows, key=lambda row: (metric.rank(row[0]), row[1])):
        table.add_row(*row)
    return table


def _row(group: Group, show_cache: bool) -> list[str]:
    many, show = len(group.runs) > 1, group.metric.show
    beside = [run.beside for run in group.runs if run.beside is not None]
    row = [
        group.name + ("" if all(run.finished for run in group.runs) else " (unfinished)"),
        str(len(group.runs)),
        str(group.steps[-1]),
        show(statistics.fmean(group.last)),
        show(group.spread) if many else "",
        *([show(statistics.fmean(beside))] if beside else []),
    ]
    return [*row, group.runs[0].fingerprint[:12]] if show_cache else row
