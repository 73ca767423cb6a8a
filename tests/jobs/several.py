"""Several commands in one process of their own, because to import torch takes longer than most of them do."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from tests.commands import run

PARTED = "\x1e"
EACH = f"""
import json, sys
from jobs.cli import main
for command in json.loads(sys.argv[1]):
    sys.argv = ["stillroom", *command]
    code = 0
    try:
        main()
    except SystemExit as end:
        code = end.code or 0
    print({PARTED!r}, code, {PARTED!r}, sep="", end="", flush=True)
    print({PARTED!r}, end="", flush=True, file=sys.stderr)
"""


class Ended(NamedTuple):
    """How a command ended."""

    said: str
    code: int
    beside: str  # on stderr


def run_each(commands: Sequence[Sequence[object]], folder: Path, environment: Mapping[str, str]) -> list[Ended]:
    """How each of `stillroom`'s commands ends, one after the other, in `folder`."""
    done = run(["-c", EACH, json.dumps([list(map(str, command)) for command in commands])], folder, environment)
    assert done.returncode == 0, done.stdout + done.stderr
    said, beside = done.stdout.split(PARTED)[:-1], done.stderr.split(PARTED)[:-1]
    return [Ended(*of) for of in zip(said[::2], map(int, said[1::2]), beside, strict=True)]
