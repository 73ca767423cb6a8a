"""A hundred hostile inputs under every command that reads: none brings a traceback, none goes on without end."""

import contextlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.jobs.hostile import READERS, SECONDS, make_world, run, run_case

ROOT = Path(__file__).resolve().parents[2]
CASES, GROUP = 100, 10


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    make_world(folder)
    return folder


def test_the_commands_are_sound_where_the_files_are(world: Path) -> None:
    """Or every case would be refused for one and the same reason."""
    with contextlib.chdir(world):
        for command in {command for commands in READERS.values() for command in commands}:
            outcome = run(command)
            assert outcome.code == 0, f"{command}\n{outcome.said}"
            shutil.rmtree("new-run", ignore_errors=True)


@pytest.mark.parametrize("first", range(0, CASES, GROUP))
def test_every_command_ends_in_a_message(world: Path, tmp_path: Path, first: int) -> None:
    for number in range(first, first + GROUP):
        case, outcome = run_case(world, tmp_path / "case", number)
        assert outcome.is_sound, f"{case}\n{outcome.code} after {outcome.seconds:.1f} s\n{outcome.said}"


def test_as_a_process_too(world: Path) -> None:
    """In this process a test catches what is raised; here is what a user sees."""
    os.mkfifo(world / "pipe.yaml")
    command = [sys.executable, "-m", "jobs.cli", "plan", str(world / "pipe.yaml")]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    found = subprocess.run(command, capture_output=True, text=True, timeout=6 * SECONDS, check=False, env=environment)
    assert found.returncode == 2 and found.stdout == ""
    assert found.stderr == (
        f"stillroom: cannot read the config {world / 'pipe.yaml'}: it is a pipe, and a regular file is wanted\n"
    )
