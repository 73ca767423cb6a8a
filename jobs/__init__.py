"""The front door: one command line, one module for each command, ready-made configs."""

import os
import signal
import sys
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]


def _leave_out_working_directory() -> None:
    """`python -m` puts the working directory first on the path, and Ray does so for a job. What happens to lie
    there must not be imported in place of our code or a library, here or in a process that this one starts: PYTHONPATH
    is handed on without it."""
    foreign = _foreign()
    if not foreign:
        return
    sys.path[:] = [place for place in sys.path if Path(place or os.curdir).resolve() not in foreign]
    if "PYTHONPATH" in os.environ:
        places = os.environ["PYTHONPATH"].split(os.pathsep)
        kept = [place for place in places if place and Path(place).resolve() not in foreign]
        os.environ["PYTHONPATH"] = os.pathsep.join(kept)


def _end_quietly() -> None:
    """A Ctrl-C while all is imported ends this process as it ends any other, and not in a traceback of the imports.
    `jobs.guard` heeds it from there on."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def _foreign() -> set[Path]:
    """The working directory, if there is one and it is not the one that this file is imported from."""
    try:
        return {Path.cwd().resolve()} - {PROJECT}
    except FileNotFoundError:
        return set()


# Python looks for a module under the name `-m`.
_command = sys.argv[0] if sys.argv else ""
if _command == "-m" or Path(_command).stem == "stillroom":
    _leave_out_working_directory()
    _end_quietly()
