"""What breaks a config and its files, and how a refusal must look."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jobs.cli import main

Config = dict[str, Any]


Break = Callable[[Path, Config], object]


def refuse(
    arguments: list[str], said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Run the command line in this process: it must exit 2 with one message that holds `said`."""
    monkeypatch.setattr("sys.argv", ["stillroom", *arguments])
    with pytest.raises(SystemExit) as exit_:
        main()
    captured = capsys.readouterr()
    assert exit_.value.code == 2, captured.err
    assert "Traceback" not in captured.err and captured.err.count("stillroom: ") == 1, captured.err
    assert said in " ".join(captured.err.split()), captured.err


def teacher(**changes: Any) -> Break:
    return lambda here, config: config["teacher"].update(changes)


def student(**changes: Any) -> Break:
    return lambda here, config: config["student"].update(changes)


def output(name: str) -> Break:
    return lambda here, config: config.update(output=str(here / name))


def corpus(**changes: Any) -> Break:
    return lambda here, config: config["corpus"].update(changes)


def edit(path: Path, change: Callable[[Any], Any]) -> None:
    value = json.loads(path.read_text())
    path.write_text(json.dumps(change(value) or value))


def truncate(path: Path, keep: float = 0.5) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep)])


def both(first: Break, second: Break) -> Break:
    def change(here: Path, config: Config) -> None:
        first(here, config)
        second(here, config)

    return change


def foreign_output(here: Path, config: Config) -> None:
    (here / "new").mkdir()
    (here / "new" / "thesis.txt").write_text("mine")


def snapshot(folder: Path) -> dict[str, bytes | None]:
    return {str(path): path.read_bytes() if path.is_file() else None for path in sorted(folder.rglob("*"))}
