"""Commands on caches that are there."""

from pathlib import Path
from typing import Annotated

import typer

from jobs.commands.arguments import CachePath, to_any_place, to_model


def inspect(
    caches: Annotated[
        list[Path],
        typer.Argument(
            parser=to_any_place,
            metavar="CACHE",
            help="Cache folders or URLs; several as a run reads them together.",
        ),
    ],
    sample: Annotated[
        str | None, typer.Option(help="Id of the sample to show; left out, the first, or with a student none.")
    ] = None,
    student: Annotated[
        str | None,
        typer.Option(
            parser=to_model,
            metavar="FOLDER|CONFIG",
            help="A student's folder or hub id, or a training config: show how its tokens fit the cache's.",
        ),
    ] = None,
    max_tokens: Annotated[
        int | None, typer.Option(min=2, help="Where its samples are cut; left out, as the config says, or 1024.")
    ] = None,
) -> None:
    """Show what a cache holds: teacher, arrays, sizes, and one sample with its spans marked in the text. Of several:
    whether a run can read them together, and what each brings. With a student: how its tokens fit the cache's, over
    many samples, and in one if it is named."""
    if student is not None:
        from jobs.inspect_student import show_student

        show_student(caches, student, max_tokens, sample)
        return
    from jobs.inspect import show_caches

    show_caches(caches, sample, max_tokens)


def verify(
    cache: CachePath,
    replay: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=2**31 - 1,
            metavar="N",
            help="Also load the teacher, compute N random samples once more, each alone, and compare them with the "
            "cache's.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, max=2**63 - 1, help="Draws the samples; with --replay.")] = 0,
    teacher: Annotated[
        str | None,
        typer.Option(
            parser=to_model, metavar="FOLDER|ID", help="The teacher; left out, the hub id in cache.json; with --replay."
        ),
    ] = None,
    adapter: Annotated[
        str | None,
        typer.Option(parser=to_model, metavar="FOLDER|ID", help="The LoRA adapter that was merged; with --replay."),
    ] = None,
    trust_remote_code: Annotated[
        bool, typer.Option("--trust-remote-code", help="Run Python code that ships with the teacher; with --replay.")
    ] = False,
    in_batch: Annotated[
        bool,
        typer.Option(
            "--in-batch",
            help="Not alone, but in the batches of the extraction: numbers agree to the bit where the same machine and "
            "libraries made the cache; with --replay.",
        ),
    ] = False,
    placement: Annotated[
        str | None,
        typer.Option(
            metavar="device|spread",
            help="As `teacher.placement`; left out, spread if no device has room for the teacher; with --replay.",
        ),
    ] = None,
    max_memory: Annotated[
        str | None,
        typer.Option(
            metavar="{...}",
            help="What a teacher that is spread may take, as `teacher.max_memory`, e.g. '{0: 20GB, cpu: 100GB}'; with "
            "--replay.",
        ),
    ] = None,
) -> None:
    """Check every checksum, row count and number of a cache. Exits 2 at damage, naming every damaged shard. With
    --replay, also at states that the teacher does not give."""
    from jobs.verify import run_verification

    run_verification(cache, replay, seed, teacher, adapter, trust_remote_code, in_batch, placement, max_memory)


def repair(cache: CachePath) -> None:
    """Drop the damaged shards of a cache, and no others, so that `extract` makes exactly these again."""
    from jobs.repair import repair_cache

    repair_cache(cache)


def diff(
    first: CachePath,
    second: Annotated[Path, typer.Argument(parser=to_any_place, metavar="OTHER", help="Another cache folder or URL.")],
) -> None:
    """Say in what two caches differ: settings, samples, and the largest difference of every array. Exits 1 if they
    do."""
    from jobs.diff import show_difference

    if show_difference(first, second):
        raise typer.Exit(1)


def reindex(cache: CachePath) -> None:
    """Rebuild a cache's index.parquet from its shards."""
    from jobs.extract import rebuild_index

    rebuild_index(cache)
