"""`stillroom evaluate`: one or more models in a table, by held-out bits per byte or by how they rank sentence pairs."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from rich.box import SIMPLE_HEAD
from rich.table import Table

from jobs.report.names import WIDTH, short_names, shorten
from schemas.console import make_console
from schemas.errors import ModelError
from schemas.models.load import build_on_meta
from schemas.models.positions import usable_positions
from schemas.models.tokenizer import load_tokenizer
from schemas.progress import track
from trainer.evaluation.bits_per_byte import Evaluation, evaluate, load_for_evaluation
from trainer.evaluation.held_out_texts import read_texts
from trainer.evaluation.sentence_pairs import read_pairs
from trainer.evaluation.sentence_similarity import evaluate_sentences
from trainer.runs.folder import MODEL, RECORD, read_run, require_model, trained_max_tokens
from trainer.student.load import load_sentence_encoder

LONGEST_WINDOW = 1024


def show_evaluations(models: Sequence[Path], text: Path, field: str, limit: int | None, max_tokens: int | None) -> None:
    """Print a row for each model, best first. Raises ModelError, TokenizerError, RunError or CorpusError.

    All are scored in windows of one length, because a longer context predicts better: `max_tokens`, or else the
    shortest of the models' own. A run's own is `student.max_tokens`, as it was while it trained; any other model's are
    its positions, up to 1,024.
    """
    texts = read_texts(text, field, limit)
    device = _device()
    folders = list(_folders(models))
    own = {} if max_tokens else {folder: _own_window(folder, model_folder) for folder, model_folder in folders}
    window = max_tokens or min(own.values())
    rows = []
    for folder, model_folder in track_models(folders):
        model, tokenizer = load_for_evaluation(model_folder)
        rows.append((folder, evaluate(model.to(device), tokenizer, texts, window, device)))
    console = make_console()
    console.print(_table(rows))
    console.print(f"{len(texts):,} texts, in windows of {window:,} tokens{_shortest(own)}", soft_wrap=True)
    if any(found.unknown_tokens for _, found in rows):
        print("A model with unknown tokens has less to predict: its bits per byte flatter it.")


def show_sentence_evaluations(models: Sequence[Path], pairs: Path, limit: int | None, max_tokens: int | None) -> None:
    """Print a row for each sentence encoder, best first. Raises ModelError, TokenizerError or CorpusError.

    A folder must have the layout of sentence-transformers; it says where texts are cut unless `max_tokens` does.
    """
    scored = read_pairs(pairs, limit)
    device = _device()
    rows = []
    for folder, model_folder in track_models(list(_folders(models))):
        model, tokenizer = load_sentence_encoder(model_folder), load_tokenizer(model_folder)
        model.layout = replace(model.layout, max_tokens=max_tokens or model.layout.max_tokens)
        found = evaluate_sentences(model.to(device), tokenizer, scored, device)
        rows.append((folder, model.layout.max_tokens, found))
    rows.sort(key=lambda row: -row[2].spearman)
    table = Table(pad_edge=False, box=SIMPLE_HEAD)
    table.add_column("model", overflow="fold")
    for heading in ("Spearman × 100", "cut at tokens", "pairs"):
        table.add_column(heading, justify="right", no_wrap=True)
    names = short_names([folder for folder, _, _ in rows])
    for name, (_, cut_at, found) in zip(names, rows, strict=True):
        table.add_row(name, f"{found.spearman:.2f}", f"{cut_at:,}", f"{found.pairs:,}")
    make_console().print(table)


def _device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def track_models(folders: Sequence[tuple[Path, Path]]) -> Iterator[tuple[Path, Path]]:
    """The same, with their progress."""
    yield from track("evaluating", "models", folders)


def _folders(models: Sequence[Path]) -> Iterator[tuple[Path, Path]]:
    """Each model as it was named, and the folder of its weights.

    Raises ModelError for a name that cannot be one, RunError for a run whose model was altered after it was trained.
    """
    for folder in models:
        try:
            is_run = (folder / MODEL).is_dir()
        except OSError as error:
            raise ModelError(f"cannot look for the model folder {folder}: {error.strerror}") from error
        if is_run and (folder / RECORD).is_file():
            require_model(folder, read_run(folder))
        yield folder, folder / MODEL if is_run else folder


def _own_window(folder: Path, model_folder: Path) -> int:
    if (folder / RECORD).is_file():
        return trained_max_tokens(folder, read_run(folder))
    positions = usable_positions(build_on_meta(model_folder, "causal", trust_remote_code=False))
    return min(positions or LONGEST_WINDOW, LONGEST_WINDOW)


def _shortest(own: Mapping[Path, int]) -> str:
    """Whose window was taken, if the models' own differ."""
    if len(set(own.values())) < 2:
        return ""
    shortest = min(own, key=lambda folder: own[folder])
    return f", the shortest of these models' own ({shorten(str(shortest), WIDTH)}); --max-tokens sets another"


def _table(rows: Sequence[tuple[Path, Evaluation]]) -> Table:
    ranked = sorted(rows, key=lambda row: row[1].bits_per_byte)
    columns: dict[str, Callable[[Evaluation], str]] = {
        "bits/byte": lambda found: f"{found.bits_per_byte:.4f}",
        "nats/token": lambda found: f"{found.nats_per_token:.4f}",
        "tokens": lambda found: f"{found.tokens:,}",
        "bytes": lambda found: f"{found.bytes:,}",
    }
    if any(found.unscored_bytes for _, found in ranked):
        columns["unscored"] = lambda found: f"{found.unscored_bytes:,}"
    if any(found.unknown_tokens for _, found in ranked):
        columns["unknown"] = lambda found: f"{found.unknown_tokens:,}"
    table = Table(pad_edge=False, box=SIMPLE_HEAD)
    table.add_column("model", overflow="fold")
    for heading in columns:
        table.add_column(heading, justify="right", no_wrap=True)
    names = short_names([folder for folder, _ in ranked])
    for name, (_, found) in zip(names, ranked, strict=True):
        table.add_row(name, *(show(found) for show in columns.values()))
    return table
