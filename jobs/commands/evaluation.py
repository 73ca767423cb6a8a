"""Commands that measure models and runs."""

from pathlib import Path
from typing import Annotated

import typer

from jobs.commands.arguments import to_place


def evaluate(
    models: Annotated[
        list[Path],
        typer.Argument(parser=to_place, metavar="MODEL", help="Run folders or Hugging Face model folders."),
    ],
    text: Annotated[
        Path | None,
        typer.Option(
            parser=to_place,
            metavar="FILE",
            help="Held-out texts: records in any file that a corpus may have, or plain text, a text per line.",
        ),
    ] = None,
    pairs: Annotated[
        Path | None,
        typer.Option(
            parser=to_place,
            metavar="FILE",
            help="For sentence encoders: records, likewise, of sentence1, sentence2, score.",
        ),
    ] = None,
    field: Annotated[str, typer.Option(help="Field of a record that holds the text; a plain text has none.")] = "text",
    conversations: Annotated[
        str | None,
        typer.Option(
            metavar="LAYOUT|{...}",
            help="The records hold conversations, which every model reads in its own chat template: how, as a name or "
            "as `corpus.conversations` has it, e.g. '{layout: messages, targets: last}'.",
        ),
    ] = None,
    chat_template: Annotated[
        str | None,
        typer.Option(metavar="FILE|plain", help="Of every model, instead of its own; plain: contents without one."),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Use only the first N texts, conversations or pairs.")
    ] = None,
    max_tokens: Annotated[
        int | None, typer.Option(min=2, help="Window; left out, the shortest of the models' own, up to 1024.")
    ] = None,
    metric: Annotated[
        str | None,
        typer.Option(help="Of an installed package, say; left out, bits_per_byte, target_bits_per_byte or spearman."),
    ] = None,
) -> None:
    """Measure held-out bits per byte, which compares models across tokenizers, and nats per token: of texts, or of what
    assistants say in conversations. Or how sentence encoders rank scored pairs, as Spearman's correlation times 100."""
    from jobs.held_out import choose_material

    found, material = choose_material(text, pairs, field, conversations, chat_template, limit, metric)

    from jobs.evaluate import show_evaluations  # torch takes seconds to import

    show_evaluations(models, found, material, max_tokens)


def compare(
    runs: Annotated[
        list[Path], typer.Argument(parser=to_place, metavar="RUN", help="Folders that `stillroom train` wrote.")
    ],
    picture: Annotated[
        Path | None,
        typer.Option(parser=to_place, metavar="FILE", help="Draw the curves of what was held out into this PNG."),
    ] = None,
) -> None:
    """Compare runs in a table, seeds grouped, and draw their curves."""
    from jobs.compare import show_comparison

    show_comparison(runs, picture)
