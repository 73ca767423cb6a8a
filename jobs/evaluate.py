"""`stillroom evaluate`: one or more models in a table, by held-out bits per byte or by how they rank sentence pairs."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from rich.progress import track
from rich.table import Table

from jobs.report.console import make_console
from schemas.errors import ModelError
from schemas.models.positions import usable_positions
from schemas.models.tokenizer import load_tokenizer
from trainer.evaluation.bits_per_byte import Evaluation, evaluate, load_for_evaluation
from trainer.evaluation.held_out_texts import read_texts
from trainer.evaluation.sentence_pairs import read_pairs
from trainer.evaluation.sentence_similarity import evaluate_sentences
from trainer.runs.folder import MODEL, RECORD, read_run
from trainer.student.load import load_sentence_encoder

LONGEST_WINDOW = 1024


def show_evaluations(models: Sequence[Path], text: Path, field: str, limit: int | None, max_tokens: int | None) -> None:
    """Print a row for each model, best first. Raises ModelError, TokenizerError, RunError or CorpusError.

    A run's student is scored in windows of its own `student.max_tokens`, as it was while it trained; any other model in
    its own positions, 1,024 at most.
    """
    texts = read_texts(text, field, limit)
    device = _device()
    rows = []
    for folder, model_folder in _folders(models):
        model, tokenizer = load_for_evaluation(model_folder)
        window = max_tokens or _window(folder, model)
        rows.append((folder, window, evaluate(model.to(device), tokenizer, texts, window, device)))
    make_console().print(_table(rows))
    if any(found.unknown_tokens for _, _, found in rows):
        print("A model with unknown tokens has less to predict: its bits per byte flatter it.")


def show_sentence_evaluations(models: Sequence[Path], pairs: Path, limit: int | None, max_tokens: int | None) -> None:
    """Print a row for each sentence encoder, best first. Raises ModelError, TokenizerError or CorpusError.

    A folder must have the layout of sentence-transformers; it says where texts are cut unless `max_tokens` does.
    """
    scored = read_pairs(pairs, limit)
    device = _device()
    rows = []
    for folder, model_folder in _folders(models):
        model, tokenizer = load_sentence_encoder(model_folder), load_tokenizer(model_folder)
        model.layout = replace(model.layout, max_tokens=max_tokens or model.layout.max_tokens)
        found = evaluate_sentences(model.to(device), tokenizer, scored, device)
        rows.append((found.spearman, str(folder), model.layout.max_tokens, found.pairs))
    table = Table("model", pad_edge=False)
    for heading in ("Spearman × 100", "window", "pairs"):
        table.add_column(heading, justify="right")
    for spearman, name, window, count in sorted(rows, key=lambda row: -row[0]):
        table.add_row(name, f"{spearman:.2f}", f"{window:,}", f"{count:,}")
    make_console().print(table)


def _device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _folders(models: Sequence[Path]) -> Iterator[tuple[Path, Path]]:
    """Each model as it was named, and the folder of its weights. Raises ModelError for a name that cannot be one."""
    progress = make_console(stderr=True)
    for folder in track(models, "evaluating", console=progress, transient=True, disable=not progress.is_terminal):
        try:
            is_run = (folder / MODEL).is_dir()
        except OSError as error:
            raise ModelError(f"cannot look for the model folder {folder}: {error.strerror}") from error
        yield folder, folder / MODEL if is_run else folder


def _window(folder: Path, model: Any) -> int:
    if (folder / RECORD).is_file():
        return int(read_run(folder).identity["student"]["max_tokens"])
    return min(usable_positions(model) or LONGEST_WINDOW, LONGEST_WINDOW)


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
