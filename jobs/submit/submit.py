"""`stillroom submit`: a command as a job on a Ray cluster, with everything that it needs."""

import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, get_args

from jobs.submit.package import CONFIG, Command, pack
from jobs.submit.storages import say_not_sent, settings_for
from schemas.console import say
from schemas.errors import ConfigError
from schemas.shown import quoted

if TYPE_CHECKING:
    from pipeline.cluster.submission import JobServer

COMMANDS: tuple[Command, ...] = get_args(Command)


def run_submission(
    command: str | None,
    path: Path | None,
    overrides: Sequence[str],
    address: str | None,
    cpus: float | None,
    gpus: float | None,
    detach: bool,
    storage_settings: bool,
    follow: str | None,
    stop: str | None,
) -> int:
    """Submit, follow or stop, by what was typed; returns the exit code. Raises ConfigError if that is not one of the
    three, and what they raise."""
    if address is None:
        raise ConfigError("give --address, the cluster's dashboard, as http://head:8265")
    given = [command is not None or path is not None, follow is not None, stop is not None]
    if given.count(True) != 1 or (command is None) != (path is None):
        raise ConfigError("give a command and its config, or --follow JOB, or --stop JOB")
    if command is not None and path is not None:
        return submit_job(command, path, overrides, address, cpus, gpus, detach, storage_settings)
    if follow is not None:
        return follow_job(follow, address)
    if stop is not None:
        stop_job(stop, address)
    return 0


def submit_job(
    command: str,
    path: Path,
    overrides: Sequence[str],
    address: str,
    cpus: float | None = None,
    gpus: float | None = None,
    detach: bool = False,
    storage_settings: bool = False,
) -> int:
    """Start `stillroom COMMAND` with the config in `path` on the cluster, and follow it unless told to `detach`. With
    `storage_settings`, it is given what this environment says of the storages whose URLs the config names.

    Returns the job's exit code, or 0 for a job that is left to itself. Raises ConfigError or CorpusError before
    anything is sent: a config that the command would refuse, or that names what the cluster cannot see.
    ResourceError: the cluster does not answer.
    """
    known = next((each for each in COMMANDS if each == command), None)
    if known is None:
        raise ConfigError(f"{quoted(command)} does not run as a job; give {', '.join(COMMANDS)}")
    name = f"stillroom-{known}-{secrets.token_hex(4)}"
    with TemporaryDirectory(prefix="stillroom-", ignore_cleanup_errors=True) as folder:
        settings = pack(known, path, overrides, Path(folder))
        if gpus is None and settings.get("device") == "cuda":
            gpus = settings.get("devices", 1)  # without, Ray hides them from the process in which `train` trains
        variables = settings_for(settings)
        if variables and not storage_settings:
            say(say_not_sent(variables))
            variables = {}
        server = _server(address)
        with _left_running(name, address):
            server.submit(name, f"python -m jobs.cli {known} {CONFIG}", Path(folder), variables, cpus, gpus)
    if detach:
        say(f"job {name} is submitted; {_ways_on(name, address)}")
        return 0
    return follow_job(name, address, server)


def follow_job(name: str, address: str, server: "JobServer | None" = None) -> int:
    """Follow a job from its first line on; returns its exit code. Ctrl-C leaves it running."""
    from jobs.submit.follow import follow

    server = server or _server(address)
    with _left_running(name, address):
        return follow(server, name).exit_code or 0


def stop_job(name: str, address: str) -> None:
    """End a job as Ctrl-C would: what it has committed stays."""
    from jobs.submit.follow import describe, say_beside

    server = _server(address)
    if not server.state(name).is_over:
        server.stop(name)
    say_beside(describe(name, server.wait(name)))


def _server(address: str) -> "JobServer":
    """Later than a config's mistakes are told: to import Ray takes seconds."""
    from pipeline.cluster.submission import JobServer

    return JobServer(address)


@contextmanager
def _left_running(name: str, address: str) -> Iterator[None]:
    """Ctrl-C ends this command and not the job."""
    try:
        yield
    except KeyboardInterrupt:
        from jobs.submit.follow import say_beside

        say_beside(f"job {name} goes on, if the cluster has taken it; {_ways_on(name, address)}")
        raise SystemExit(130) from None


def _ways_on(name: str, address: str) -> str:
    command = "`stillroom submit --{} " + f"{name} --address {address}`"
    return f"follow it with {command.format('follow')}, end it with {command.format('stop')}"
