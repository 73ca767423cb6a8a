"""`stillroom evaluate`: held-out bits per byte of one or more models, in a table."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table

from trainer.evaluate import Evaluation, evaluate, load_for_evaluation, read_texts
from trainer.run_folder import MODEL, RECORD, read_run

LONGEST_WINDOW = 1024


def show_evaluations(models: Sequence[Path], text: Path, field: str, limit: int | None, max_tokens: int | None) -> None:
    """Print a row for each model, best first. Raises ModelError, TokenizerError, RunError or CorpusError.

    A run's student is scored in windows of its own `student.max_tokens`, as it was while it trained; any other model in
    its own positions, 1,024 at most.
    """
    texts = read_texts(text, field, limit)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    progress = Console(stderr=True)
    rows = []
    for folder in track(models, "evaluating", console=progress, transient=True, disable=not progress.is_terminal):
        model, tokenizer = load_for_evaluation(folder / MODEL if (folder / MODEL).is_dir() else folder)
        window = max_tokens or _window(folder, model)
        rows.append((folder, window, evaluate(model.to(device), tokenizer, texts, window, device)))
    Console(highlight=False).print(_table(rows))
    if any(found.unknown_tokens for _, _, found in rows):
        print("A model with unknown tokens has less to predict: its bits per byte flatter it.")


def _window(folder: Path, model: Any) -> int:
    if (folder / RECORD).is_file():
        return int(read_run(folder).identity["student"]["max_tokens"])
    return min(getattr(model.config, "max_position_embeddings", LONGEST_WINDOW), LONGEST_WINDOW)


def _table(rows: Sequence[tuple[Path, int, Evaluation]]) -> Table:
    table = Table("model", pad_edge=False)
    for heading in ("bits/byte", "nats/token", "window", "tokens", "bytes", "unscored bytes", "unknown tokens"):
        table.add_column(heading, justify="right")
    for folder, window, found in sorted(rows, key=lambda row: row[2].bits_per_byte):
        table.add_row(
            str(folder),
            f"{found.bits_per_byte:.4f}",
            f"{found.nats_per_token:.4f}",
            f"{window:,}",
            f"{found.tokens:,}",
            f"{found.bytes:,}",
            f"{found.unscored_bytes:,}",
            f"{found.unknown_tokens:,}",
        )
    return table
