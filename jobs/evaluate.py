"""`stillroom evaluate`: held-out bits per byte of one or more models, in a table."""

from collections.abc import Sequence
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table

from trainer.evaluate import evaluate, load_for_evaluation, read_texts
from trainer.run_folder import MODEL

LONGEST_WINDOW = 1024


def show_evaluations(models: Sequence[Path], text: Path, field: str, limit: int | None, max_tokens: int | None) -> None:
    """Print a row for each model, best first. Raises ModelError, TokenizerError or CorpusError."""
    texts = read_texts(text, field, limit)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    progress = Console(stderr=True)
    rows = []
    for folder in track(models, "evaluating", console=progress, transient=True, disable=not progress.is_terminal):
        model, tokenizer = load_for_evaluation(folder / MODEL if (folder / MODEL).is_dir() else folder)
        positions = getattr(model.config, "max_position_embeddings", LONGEST_WINDOW)
        window = max_tokens or min(positions, LONGEST_WINDOW)
        rows.append((folder, evaluate(model.to(device), tokenizer, texts, window, device)))
    table = Table("model", pad_edge=False)
    for heading in ("bits/byte", "nats/token", "tokens", "bytes", "unscored bytes", "unknown tokens"):
        table.add_column(heading, justify="right")
    for folder, found in sorted(rows, key=lambda row: row[1].bits_per_byte):
        table.add_row(
            str(folder),
            f"{found.bits_per_byte:.4f}",
            f"{found.nats_per_token:.4f}",
            f"{found.tokens:,}",
            f"{found.bytes:,}",
            f"{found.unscored_bytes:,}",
            f"{found.unknown_tokens:,}",
        )
    Console(highlight=False).print(table)
    if any(found.unknown_tokens for _, found in rows):
        print("A model with unknown tokens has less to predict: its bits per byte flatter it.")
