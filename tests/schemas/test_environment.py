"""A variable that is set for a while."""

import os
import subprocess
import sys

import pytest

from schemas.environment import variable

CODE = "import os; print(os.environ.get('STILLROOM_TRIED'))"


def seen() -> str:
    return subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True).stdout.strip()


@pytest.mark.parametrize("before", [None, "before"])
def test_processes_that_are_started_meanwhile_see_it(before: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STILLROOM_TRIED", raising=False)
    if before is not None:
        monkeypatch.setenv("STILLROOM_TRIED", before)
    with pytest.raises(ZeroDivisionError), variable("STILLROOM_TRIED", "meanwhile"):
        assert seen() == "meanwhile"
        raise ZeroDivisionError
    assert seen() == str(before) and os.environ.get("STILLROOM_TRIED") == before
