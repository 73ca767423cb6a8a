"""The picture of a comparison: what was held out, by step, a line for each group and its spread over seeds."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from jobs.report.runs import Group
from schemas.shown import printable
from schemas.storage.atomic import disk_full, file_beside

# Okabe and Ito's colours, told apart with any colour vision; beyond seven groups the dashes change.
COLOURS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000"]
DASHES = ["-", "--", ":", "-."]


def draw_curves(groups: Sequence[Group], references: Mapping[str, float], path: Path) -> None:
    """Write a PNG of 1200 x 750 pixels; `references` become horizontal lines, the legend is in the order given.

    Raises ResourceError if the disk is full.
    """
    figure = Figure(figsize=(8, 5), dpi=150, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for number, group in enumerate(groups):
        steps, means, spreads = group.curve
        colour, dash = COLOURS[number % len(COLOURS)], DASHES[number // len(COLOURS) % len(DASHES)]
        label = f"{_as_text(group.name)}  {means[-1]:.3f}" + (f" ± {spreads[-1]:.3f}" if len(group.runs) > 1 else "")
        axes.plot(steps, means, dash, color=colour, linewidth=1.8, marker="o", markersize=3, label=label)
        if len(group.runs) > 1:
            low = [mean - spread for mean, spread in zip(means, spreads, strict=True)]
            high = [mean + spread for mean, spread in zip(means, spreads, strict=True)]
            axes.fill_between(steps, low, high, color=colour, alpha=0.2, linewidth=0)
    for name, value in references.items():
        label = f"{_as_text(name)}  {value:.3f}"
        axes.axhline(value, color="#777777", linewidth=1.2, linestyle=(0, (1, 2)), label=label)
    axes.set_xlabel("step")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.set_ylabel(groups[0].metric.title)
    axes.spines[["top", "right"]].set_visible(False)
    if len(groups) + len(references) <= len(COLOURS):
        axes.legend(frameon=False)
    else:  # there is no room for it among the curves
        figure.legend(loc="outside right upper", frameon=False, fontsize="small")
    with disk_full("the picture", path), file_beside(path) as beside:
        figure.savefig(beside, metadata={"Software": None})  # no version in it: equal runs, equal bytes


def _as_text(name: str) -> str:
    """Escape a dollar, because text between two would be set as a formula, and what no font can draw."""
    return printable(name).replace("$", r"\$")
