"""Commands that make a cache, or add to one."""

from typing import Annotated

import typer

from jobs.commands.arguments import ConfigPath, Overrides


def plan(
    config: ConfigPath,
    overrides: Overrides = [],  # noqa: B006 - typer copies it
    probe: Annotated[
        bool,
        typer.Option("--probe", help="Run the teacher here for some 20 s: time and bytes are measured."),
    ] = False,
) -> None:
    """Say what `extract` or `extend` would do: samples, units, tokens, bytes on disk by array and encoding; and where a
    cache is there, what it lacks. Loads no weights except to probe."""
    from jobs.extract import show_plan

    show_plan(config, overrides, probe)


def extract(config: ConfigPath, overrides: Overrides = []) -> None:  # noqa: B006
    """Run the teacher once over a corpus and keep its states. Run it again to go on; a finished cache is left alone."""
    from jobs.extract import run_extraction

    run_extraction(config, overrides)


def import_(config: ConfigPath, overrides: Overrides = []) -> None:  # noqa: B006
    """Make a cache out of what another program has kept of a teacher: top-k datasets of DistillKit or axolotl, hidden
    states of vLLM speculators. All of it is checked before anything is written."""
    from jobs.importing import run

    run(config, overrides)


def extend(config: ConfigPath, overrides: Overrides = []) -> None:  # noqa: B006
    """Add to a finished cache the samples that its corpus has gained at its end, and the layers and kinds that its
    config has gained in `states`. Only what is new is run; what is there stays. Run it again to go on."""
    from jobs.extract import run_extension

    run_extension(config, overrides)
