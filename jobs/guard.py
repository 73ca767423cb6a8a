"""How a command ends: whatever goes wrong with an input or a machine gives one message and an exit code, no traceback.

2: the message says what is wrong and the way out. 130: interrupted, and what is kept. 141: nobody reads the output.
"""

import logging
import os
import re
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.metadata import PackageNotFoundError, requires
from importlib.util import find_spec
from types import FrameType
from typing import Any, NoReturn

from typer.core import TyperGroup

from schemas.errors import ResourceError, StillroomError
from schemas.failures import describe_failure
from schemas.progress import interrupted
from schemas.shown import printable
from schemas.storage.remote import named

# What is kept when a command is interrupted, and how to go on.
INTERRUPTED = {
    "extract": "every finished shard stays in the output; the same command goes on after it",
    "extend": "the cache stays as it was, and every finished new shard beside it; the same command goes on after it",
    "train": "the run's last checkpoint stays, if there is one yet (`checkpoint_every` steps apart): the same command "
    "goes on from it, or begins again",
    "sweep": "finished runs stay, and of the others the last checkpoints; the same command goes on from there",
    "generate": "nothing was written, because texts appear whole at the end; the same command starts again",
    "reindex": "the earlier index stays; run the same command again",
    "demo": "every finished step stays; the same command goes on from there",
}
NOTHING_KEPT = "nothing was written; run the same command again"


class GuardedGroup(TyperGroup):
    """The commands, each under `guard`. Typer itself would end an interrupted one without a message."""

    def invoke(self, context: Any) -> Any:
        """Run the command that the arguments name."""
        with guard(context):
            return super().invoke(context)


@contextmanager
def guard(context: Any = None) -> Iterator[None]:
    """Turn what a user or a machine can cause into one message on stderr and an exit code."""
    try:
        yield
        if sys.stdout is not None:  # it is None in a process that began with it closed
            sys.stdout.flush()  # a full disk or a closed pipe shows here, rather than when Python is gone
    except StillroomError as error:
        _end(str(error), 2)
    except KeyboardInterrupt:
        command = str(getattr(context, "invoked_subcommand", None))
        _end(f"interrupted; {INTERRUPTED.get(command, NOTHING_KEPT)}", 130)
    except BrokenPipeError:
        _forget_output()
        raise SystemExit(141) from None  # what a shell says of a program that SIGPIPE ended
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if not (extras := _extras_of(package)):
            raise
        ways = " or ".join(f"pip install 'stillroom[{extra}]'" for extra in extras)
        _end(f"this needs the package {package}, which is not installed: {ways}", 2)
    except Exception as error:
        told = describe_failure(error)
        if told is None:
            raise  # an error of the program
        if isinstance(error, OSError):
            _forget_output()
        _end(told, 2)


class _OneMessage(logging.Formatter):
    """A warning as it is, with names that users gave made harmless."""

    def format(self, record: logging.LogRecord) -> str:
        return printable(named(super().format(record)))


def heed_interrupts() -> None:
    """Let no Ctrl-C be lost where Python ignores it: whatever shows progress remembers it. Nothing is printed there.

    SIGTERM, which a scheduler sends before it kills, ends a command alike.
    """

    def interrupt(number: int, frame: FrameType | None) -> NoReturn:
        interrupted.set()
        raise KeyboardInterrupt

    def pass_over(ignored: "sys.UnraisableHookArgs") -> None:
        if not issubclass(ignored.exc_type, KeyboardInterrupt):
            sys.__unraisablehook__(ignored)

    sys.unraisablehook = pass_over
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as by nohup
            signal.signal(number, interrupt)


def require_docstrings() -> None:
    """Raises ResourceError where Python left them out: transformers reads its own, and blames the model."""
    if sys.flags.optimize > 1:
        raise ResourceError(
            "this Python leaves docstrings out (PYTHONOPTIMIZE=2 or -OO), and transformers cannot do without them; run "
            "it without that"
        )


def make_output_safe() -> None:
    """Let no character stop a command, whatever the encoding of its output: one it lacks is escaped. Warnings too."""
    if logging.lastResort is not None:
        logging.lastResort.setFormatter(_OneMessage())
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="backslashreplace")


def _extras_of(package: str) -> list[str]:
    """The extras of ours that bring a package which is not there: who trains has installed nothing of Ray's."""
    if not package or find_spec(package) is not None:
        return []
    try:
        lines = requires("stillroom") or []
    except PackageNotFoundError:  # run from its folder, without having been installed
        return []
    named = (re.fullmatch(r"([\w-]+).*; extra == \"([\w-]+)\"", line) for line in lines)
    return [found[2] for found in named if found and found[1].lower() == package]


def _end(message: str, code: int) -> None:
    with suppress(OSError):  # stderr itself is full: the code must still tell
        print(f"stillroom: {printable(named(message))}", file=sys.stderr, flush=True)
    raise SystemExit(code)


def _forget_output() -> None:
    """Throw away what is still to be printed, or Python would fail at it once more when it ends."""
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.__stdout__.fileno() if sys.__stdout__ else 1)
