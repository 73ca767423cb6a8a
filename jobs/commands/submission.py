"""The command that has a cluster run another."""

from pathlib import Path
from typing import Annotated

import typer

from jobs.commands.arguments import Overrides, to_place


def submit(
    command: Annotated[
        str | None, typer.Argument(metavar="extract|train|sweep", help="The command to run on the cluster.")
    ] = None,
    config: Annotated[
        Path | None, typer.Argument(parser=to_place, metavar="CONFIG.yaml", help="Its config, which is sent along.")
    ] = None,
    overrides: Overrides = [],  # noqa: B006
    address: Annotated[
        str | None,
        typer.Option(
            envvar="RAY_API_SERVER_ADDRESS", help="The cluster's dashboard, as http://head:8265.", show_envvar=True
        ),
    ] = None,
    cpus: Annotated[float | None, typer.Option(min=0, help="Processors for the job's own process.")] = None,
    gpus: Annotated[
        float | None,
        typer.Option(min=0, help="GPUs for it; left out, those of a training with `device: cuda`."),
    ] = None,
    detach: Annotated[bool, typer.Option("--detach", help="Do not follow the job.")] = False,
    storage_settings: Annotated[
        bool,
        typer.Option(
            "--storage-settings",
            help="Also send what this shell's environment says of the storages whose URLs the config names, as AWS_…: "
            "keys, which Ray's own records then show.",
        ),
    ] = False,
    follow: Annotated[str | None, typer.Option(metavar="JOB", help="Follow a job from its first line on.")] = None,
    stop: Annotated[str | None, typer.Option(metavar="JOB", help="End a job; what it has committed stays.")] = None,
) -> None:
    """Run a command as a job on a Ray cluster: stillroom, the config and the files it names by relative paths are sent
    along. Its lines are shown, and its exit code is this command's; Ctrl-C leaves it running."""
    from jobs.submit.submit import run_submission

    code = run_submission(command, config, overrides, address, cpus, gpus, detach, storage_settings, follow, stop)
    raise typer.Exit(code)
