"""What lies in the user's working directory is not imported by a command, however it is started."""

import os
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = Path(sysconfig.get_path("scripts"), "stillroom")
TRAP = "open(__file__ + '.executed', 'w').close()\n"


@pytest.mark.parametrize("path", ["{root}", ":{root}", "{here}:{root}"], ids=["plain", "empty entry", "a job's"])
@pytest.mark.parametrize("command", [[sys.executable, "-m", "jobs.cli"], [sys.executable, str(SCRIPT)]])
def test_it_is_not_imported(command: list[str], path: str, tmp_path: Path) -> None:
    if not Path(command[1]).exists() and command[1] != "-m":
        pytest.skip("stillroom is not installed")
    for name in ("schemas", "pipeline", "typer", "rich", "yaml", "pydantic"):
        (tmp_path / f"{name}.py").write_text(TRAP)
    done = subprocess.run(
        [*command, "presets"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": path.format(root=ROOT, here=tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.glob("*.executed")) == []


def test_a_checkout_is_imported_from_where_it_is() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "jobs.cli", "presets"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0 and "mta-paper" in done.stdout
