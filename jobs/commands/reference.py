"""Commands that show what stillroom takes and does."""

from pathlib import Path
from typing import Annotated

import typer

from jobs.commands.arguments import to_place


def schema(
    which: Annotated[
        str,
        typer.Argument(
            metavar="extract|import|train|sweep|generate|conversation|cache|shard", help="Whose JSON schema."
        ),
    ] = "extract",
) -> None:
    """Print the JSON schema of a config, of a conversation in a corpus, or of a file in a cache."""
    from jobs.schema import show_schema

    show_schema(which)


def presets(
    name: Annotated[
        str | None, typer.Argument(metavar="NAME", help="Which to print; left out, all are listed.")
    ] = None,
) -> None:
    """List the presets, which hold the constants of the papers, or print one."""
    from jobs.presets import show_presets

    show_presets(name)


def demo(
    folder: Annotated[
        Path, typer.Argument(parser=to_place, metavar="FOLDER", help="Where everything it makes goes.")
    ] = Path("out/demo"),
) -> None:
    """The whole way on a toy: make a corpus, train a teacher, extract, distil students, compare. Works offline, in 2 to
    5 minutes."""
    from jobs.demo.demo import run_demo

    run_demo(folder)
