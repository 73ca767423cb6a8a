"""The front door: every command has its help, and threads wait as they should unless the user says otherwise."""

import os

import pytest
import typer

from jobs import cli
from jobs.guard import INTERRUPTED

COMMANDS = (
    "plan",
    "extract",
    "inspect",
    "verify",
    "reindex",
    "train",
    "generate",
    "evaluate",
    "compare",
    "schema",
    "presets",
    "demo",
)


def commands() -> dict[str, object]:
    found: dict[str, object] = typer.main.get_command(cli.app).commands  # type: ignore[attr-defined]
    return found


def test_every_command_says_in_a_sentence_what_it_does() -> None:
    assert tuple(commands()) == COMMANDS
    for command in commands().values():
        said = str(command.help)  # type: ignore[attr-defined]
        assert said[0].isupper() and said.rstrip().endswith(".")
    assert set(INTERRUPTED) <= set(COMMANDS)


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr("sys.argv", ["stillroom", *arguments])
    with pytest.raises(SystemExit) as end:
        cli.main()
    return int(end.value.code or 0)


@pytest.mark.parametrize(("given", "spins", "policy"), [(None, "2000", "PASSIVE"), ("ACTIVE", None, "ACTIVE")])
def test_waiting_threads_sleep_soon(
    monkeypatch: pytest.MonkeyPatch, given: str | None, spins: str | None, policy: str
) -> None:
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT"):
        monkeypatch.setenv(name, "x")  # so that it is put back
        monkeypatch.delenv(name)
    if given is not None:
        monkeypatch.setenv("OMP_WAIT_POLICY", given)
    assert run(monkeypatch, "presets") == 0
    assert (os.environ.get("GOMP_SPINCOUNT"), os.environ["OMP_WAIT_POLICY"]) == (spins, policy)


@pytest.mark.parametrize("arguments", [["evaluate", "m"], ["evaluate", "m", "--text", "a", "--pairs", "b"]])
def test_an_evaluation_has_one_kind_of_material(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, *arguments) == 2
    said = capsys.readouterr().err
    assert "give --text for language models, or --pairs for sentence encoders" in " ".join(said.split())
