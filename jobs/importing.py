"""`stillroom import`: a cache out of what another program has kept of a teacher."""

from collections.abc import Sequence
from pathlib import Path

from rich.filesize import decimal

from schemas.configs.importing import ImportConfig
from schemas.configs.yaml import load_config
from schemas.console import say


def run(path: Path, overrides: Sequence[str]) -> None:
    """Import, then say what the cache holds and what was left out. Raises what `run_import` does."""
    config = load_config(path, ImportConfig, overrides)
    from pipeline.importing.run import run_import

    found = run_import(config)
    counts, manifest = found.counts, found.manifest
    size = sum(file.stat().st_size for file in found.cache.rglob("*") if file.is_file())
    arrays = ", ".join(array.path for array in manifest.arrays)
    say(f"{manifest.corpus.samples:,} samples, {found.tokens:,} tokens, {decimal(size)}: {arrays}; {found.cache}")
    if counts.rows:
        say(f"{counts.listed:,} of {counts.rows:,} rows list the token that follows in the text")
    if counts.cut:
        say(f"{counts.cut:,} answers end behind their rows: what the teacher was not asked for is not learnt")
    left_out = {
        "teach nothing": counts.unlearnt,
        "are there twice": counts.repeated,
        "have no text, or rows of other tokens": counts.unspelt,
    }
    for why, count in left_out.items():
        if count:
            say(f"left out: {count:,} samples that {why}")
    if counts.first_unspelt:
        say(f"the first of them: {counts.first_unspelt}")
