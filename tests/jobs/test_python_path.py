"""The working directory is no place to import from, also if PYTHONPATH names it: not here, and not in a worker."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TRAP = "raise SystemExit('a module of the working directory was imported')"


def test_a_python_path_that_names_the_working_directory_is_not_handed_on(tmp_path: Path) -> None:
    (tmp_path / "trap").mkdir()
    (tmp_path / "yaml.py").write_text(TRAP)
    code = "import sys; sys.argv = ['stillroom']; import jobs, os, yaml; print(os.environ['PYTHONPATH'])"
    path = os.pathsep.join([str(tmp_path), "", str(ROOT), str(tmp_path / "trap")])
    done = subprocess.run(
        [sys.executable, "-P", "-c", code],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == os.pathsep.join([str(ROOT), str(tmp_path / "trap")])
