"""Commands that make students, and have them write."""

from pathlib import Path
from typing import Annotated

import typer

from jobs.commands.arguments import ConfigPath, Overrides, to_place


def train(config: ConfigPath, overrides: Overrides = []) -> None:  # noqa: B006
    """Train one student from a cache. Run it again to resume; a finished run is left alone."""
    from jobs.train import run_training

    run_training(config, overrides)


def sweep(
    config: Annotated[
        Path,
        typer.Argument(parser=to_place, metavar="SWEEP.yaml", help="The sweep; `stillroom schema sweep` describes it."),
    ],
    overrides: Annotated[
        list[str], typer.Option("--set", metavar="FIELD=VALUE", help="Override one field, e.g. workers.count=4.")
    ] = [],  # noqa: B006
) -> None:
    """Train many students that differ in a few values, and compare them in one table. Run it again to go on."""
    from jobs.sweep.sweep import run_sweep

    run_sweep(config, overrides)


def generate(config: ConfigPath, overrides: Overrides = []) -> None:  # noqa: B006
    """Let a student continue the prompts of a cache, and write its texts as JSONL for `extract`."""
    from jobs.generate import run_generation

    run_generation(config, overrides)
