"""`stillroom inspect` as a user runs it, in this process."""

from collections.abc import Callable

import pytest

from jobs.cli import main

Command = Callable[..., str]


def inspecting(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs it and returns what it prints, on lines of 300 characters. RuntimeError has what it refuses."""

    def run(*arguments: object) -> str:
        monkeypatch.setenv("COLUMNS", "300")
        monkeypatch.setattr("sys.argv", ["stillroom", "inspect", *map(str, arguments)])
        with pytest.raises(SystemExit) as exit_:
            main()
        captured = capsys.readouterr()
        if exit_.value.code:
            raise RuntimeError(captured.err)
        return captured.out

    return run
