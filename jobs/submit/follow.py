"""A job, followed: its lines as they come, its progress as a bar where there is a terminal, and how it ends."""

from collections.abc import Iterable, Iterator
from contextlib import closing

from pipeline.cluster.submission import JobServer, JobState
from schemas.console import make_console
from schemas.progress import Relay

SAID = {"succeeded": "has succeeded", "stopped": "was stopped", "failed": "has failed"}


def follow(server: JobServer, name: str) -> JobState:
    """Show what the job prints, from its beginning until it is over, and say how it ended.

    Raises ResourceError if the cluster does not know the job, or answers no more.
    """
    found = server.state(name)
    if not found.is_over:
        say_beside(describe(name, found))
    with Relay(name) as relay, closing(server.log(name)) as pieces:
        for line in _lines(pieces):
            relay.show(line)
    found = server.wait(name)
    say_beside(describe(name, found))
    return found


def describe(name: str, found: JobState) -> str:
    """One line: how the job stands, and if it failed, why."""
    code = f" with exit code {found.exit_code}" if found.status == "failed" else ""
    why = f": {found.message}" if found.message else ""
    return f"job {name} {SAID.get(found.status, f'is {found.status}')}{code}{why}"


def say_beside(message: str) -> None:
    """On stderr, because it is no line of the job's."""
    make_console(stderr=True).print(message, soft_wrap=True)


def _lines(pieces: Iterable[str]) -> Iterator[str]:
    """Whole lines, without their ends."""
    rest = ""
    for piece in pieces:
        *lines, rest = (rest + piece).split("\n")
        yield from lines
    if rest:
        yield rest
