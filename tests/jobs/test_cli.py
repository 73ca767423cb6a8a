"""The front door: every command has its help, and threads wait as they should unless the user says otherwise."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import get_type_hints

import pytest
import typer

from jobs import cli
from jobs.guard import INTERRUPTED
from schemas.errors import ConfigError

COMMANDS = (
    "plan",
    "extract",
    "import",
    "extend",
    "inspect",
    "verify",
    "repair",
    "diff",
    "reindex",
    "train",
    "sweep",
    "submit",
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
        assert said[0].isupper() and said.endswith(".") and "\n" not in said
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


def places() -> dict[tuple[str, str], Callable[[str], str | Path]]:
    """What reads every argument and option that is a place, by its command and name."""
    return {
        (command, name): hint.__metadata__[0].parser
        for command, given in commands().items()
        for name, hint in get_type_hints(given.callback, include_extras=True).items()  # type: ignore[attr-defined]
        if "Path" in str(hint) or name == "student"
    }


PLACES = places()


def test_every_place_is_known() -> None:
    assert set(PLACES) == {
        *((name, "config") for name in ("plan", "extract", "import", "extend", "train", "sweep", "submit", "generate")),
        *((name, "cache") for name in ("verify", "repair", "reindex")),
        *(("diff", name) for name in ("first", "second")),
        *(("evaluate", name) for name in ("models", "text", "pairs")),
        *(("compare", name) for name in ("runs", "picture")),
        *(("inspect", "student"), ("inspect", "caches"), ("demo", "folder")),
    }


@pytest.mark.parametrize("place", PLACES, ids=str)
def test_every_place_may_begin_at_home(monkeypatch: pytest.MonkeyPatch, place: tuple[str, str]) -> None:
    monkeypatch.setenv("HOME", "/the/home")
    read = PLACES[place]
    for given, path in (("~/x", "/the/home/x"), ("./~/x", f"{Path.cwd()}/~/x"), ("a~", "a~"), ("file:///x", "/x")):
        assert Path(read(given)) == Path(path)
    with pytest.raises(ConfigError, match=r"'~nobody\.here': there is no such home"):
        read("~nobody.here")
