"""`stillroom evaluate`: one or more models in a table, by one metric."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.box import SIMPLE_HEAD
from rich.table import Table

from jobs.report.names import WIDTH, short_names, shorten
from schemas.console import make_console, say
from schemas.errors import ModelError
from schemas.models.load import build_on_meta
from schemas.models.positions import usable_positions
from schemas.models.sentence_layout import MODULES
from schemas.models.tokenizer import load_tokenizer
from schemas.progress import track
from trainer.evaluation.bits_per_byte import load_for_evaluation
from trainer.evaluation.metric import Measurement, Metric, measure
from trainer.evaluation.metrics.target_bits_per_byte import TargetBitsPerByte
from trainer.runs.model import is_run, model_folder
from trainer.runs.record import read_run, trained_max_tokens
from trainer.student.load import load_sentence_encoder

LONGEST_WINDOW = 1024
OTHER_ANSWERS = (
    "The models' chat templates do not show the same answers, and figures on different bytes do not compare: give one "
    "by --chat-template, or leave conversations out that one of them drops or refuses."
)


@dataclass(frozen=True)
class Measured:
    """One model, as it was named, and what it came to."""

    folder: Path
    cut_at: int  # tokens
    found: Measurement


def show_evaluations(
    models: Sequence[Path], metric: Metric, material: Sequence[Any], max_tokens: int | None = None
) -> None:
    """Print a row for each model, best first. Raises ModelError, TokenizerError, RunError or CorpusError.

    Causal models are all measured in windows of one length, because a longer context predicts better: `max_tokens`, or
    else the shortest of the models' own. A run's own is `student.max_tokens`, as it was while it trained; any other
    model's are its positions, up to 1,024. A sentence encoder's layout says where its texts are cut, unless
    `max_tokens` does.
    """
    folders = list(_folders(models))
    own: dict[Path, int] = {}
    if metric.student == "encoder":
        load = partial(_load_encoder, max_tokens)
    elif max_tokens:
        load = partial(_load_causal, max_tokens)
    else:
        own = {folder: _own_window(folder, weights) for folder, weights in folders}
        load = partial(_load_causal, min(own.values()))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    rows = []
    for folder, weights in track("evaluating", "models", folders):
        model, tokenizer, cut_at = load(weights)
        rows.append(Measured(folder, cut_at, measure(metric, model.to(device), tokenizer, material, cut_at, device)))
    make_console().print(_table(metric, rows))
    if metric.student == "causal":
        window = f"{rows[0].cut_at:,} tokens{_shortest(own)}"
        say(f"{len(material):,} {metric.material}, in windows of {window}")
        if len({row.found.shown_bytes for row in rows if isinstance(row.found, TargetBitsPerByte)}) > 1:
            say(OTHER_ANSWERS)
    for caution in dict.fromkeys(line for row in rows for line in row.found.caution().splitlines()):
        say(caution)


def _load_causal(window: int, folder: Path) -> tuple[Any, Any, int]:
    try:
        return *load_for_evaluation(folder), window
    except ModelError as error:
        if (folder / MODULES).exists():
            raise ModelError(f"{folder} is a sentence encoder: `--pairs` measures one, not `--text`") from error
        raise


def _load_encoder(max_tokens: int | None, folder: Path) -> tuple[Any, Any, int]:
    model = load_sentence_encoder(folder)
    model.layout = replace(model.layout, max_tokens=max_tokens or model.layout.max_tokens)
    return model, load_tokenizer(folder), model.layout.max_tokens


def _folders(models: Sequence[Path]) -> Iterator[tuple[Path, Path]]:
    """Each model as it was named, and the folder of its weights.

    Raises ModelError for a name that cannot be one, RunError for a run that is not finished, or whose model was altered
    after it was trained.
    """
    for folder in models:
        try:
            folder.is_dir()
        except OSError as error:
            raise ModelError(f"cannot look for the model folder {folder}: {error.strerror}") from error
        yield folder, model_folder(folder)


def _own_window(folder: Path, weights: Path) -> int:
    if is_run(folder):
        return trained_max_tokens(folder, read_run(folder))
    positions = usable_positions(build_on_meta(weights, "causal", trust_remote_code=False))
    return min(positions or LONGEST_WINDOW, LONGEST_WINDOW)


def _shortest(own: Mapping[Path, int]) -> str:
    """Whose window was taken, if the models' own differ."""
    if len(set(own.values())) < 2:
        return ""
    shortest = min(own, key=lambda folder: own[folder])
    return f", the shortest of these models' own ({shorten(str(shortest), WIDTH)}); --max-tokens sets another"


def _table(metric: Metric, rows: Sequence[Measured]) -> Table:
    ranked = sorted(rows, key=lambda row: metric.rank(row.found.metrics()[metric.name]))
    cells = [row.found.cells() for row in ranked]
    if metric.student == "encoder":
        cells = [shown | {"cut at tokens": f"{row.cut_at:,}"} for shown, row in zip(cells, ranked, strict=True)]
    headings = [heading for heading in cells[0] if any(shown[heading] != "0" for shown in cells)]
    table = Table(pad_edge=False, box=SIMPLE_HEAD)
    table.add_column("model", overflow="fold")
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    names = short_names([row.folder for row in ranked])
    for name, shown in zip(names, cells, strict=True):
        table.add_row(name, *(shown[heading] for heading in headings))
    return table
