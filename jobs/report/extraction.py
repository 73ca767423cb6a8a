"""Where the time of an extraction went, as a table."""

from rich.table import Table

from pipeline.cluster.result import ExtractionResult
from schemas.shown import counted, percent


def figures_table(result: ExtractionResult) -> Table:
    """Of what this call did. Needs a result that has figures."""
    figures = result.figures
    assert figures is not None
    idle = "" if figures.idle is None else f", which idled {percent(figures.idle)} of the time"
    rows = {
        "forward": f"{figures.forward_seconds:,.1f} s on {counted(figures.workers, 'worker')}{idle}",
        "writing": f"{figures.write_seconds:,.1f} s of encoding, hashing and writing, beside the forward passes",
        "padding": f"{percent(figures.padding)} of the positions of all batches",
        "slowest units": ", ".join(f"{slow.unit} ({slow.rate:,.0f} tokens/s)" for slow in figures.slowest),
        "tried again": ", ".join(f"{count:,} x {what}" for what, count in sorted(figures.retries.items())) or "nothing",
        "halved batches": f"{figures.halved:,}, because memory ran out" if figures.halved else "",
    }
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column(style="bold")
    for name, value in rows.items():
        if value:
            table.add_row(name, value)
    return table
