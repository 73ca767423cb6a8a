"""Folders whose names are not UTF-8, or hold what a terminal would obey, under the commands that read them."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from jobs.cli import main
from tests.caches import build_cache, extraction, write_corpus
from tests.jobs.report.run_folders import write_run
from tests.tiny import tiny_llama, tiny_tokenizer

Command = Callable[..., tuple[int, str, str]]
OBEYED = "a\x1b[31m\u202eb\x9bc"
SHOWN = r"a\x1b[31m\u202eb\x9bc"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("names")
    tiny_llama(folder / "teacher", tiny_tokenizer(folder / "teacher", "bpe"), hidden=16, layers=2, heads=2)
    corpus = write_corpus(folder / "corpus.jsonl")
    build_cache(extraction(folder / "cache", folder / "teacher", corpus, states={"hidden": [2], "mass": [2]}))
    return folder


@pytest.fixture
def stillroom(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs a command in this process: its exit code, output and errors."""

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setenv("COLUMNS", "300")
        monkeypatch.setattr("sys.argv", ["stillroom", *map(str, arguments)])
        with pytest.raises(SystemExit) as exit_:
            main()
        captured = capsys.readouterr()
        return int(exit_.value.code or 0), captured.out, captured.err

    return run


def test_a_cache_under_a_name_that_is_not_utf8(made: Path, tmp_path: Path, stillroom: Command) -> None:
    cache = tmp_path / os.fsdecode(b"n\xff")
    shutil.copytree(made / "cache", cache)
    shown = str(tmp_path / r"n\udcff")
    assert stillroom("inspect", cache)[0] == 0
    index = (cache / "index.parquet").read_bytes()
    code, said, _ = stillroom("reindex", cache)
    assert code == 0 and said.startswith(f"{shown}: index of ")
    assert (cache / "index.parquet").read_bytes() == index
    code, _, refused = stillroom("verify", cache)
    assert (code, refused) == (
        2,
        f"stillroom: {shown}/teacher/unembedding.safetensors: weights and tokenizers can be read only under names in "
        "UTF-8, and this is not one: rename it\n",
    )
    code, _, refused = stillroom("inspect", cache, "--student", made / "teacher")
    assert code == 2 and refused.startswith(f"stillroom: {shown}/teacher: weights and tokenizers can be read only")


def test_a_model_under_a_name_that_is_not_utf8(made: Path, tmp_path: Path, stillroom: Command) -> None:
    model = tmp_path / os.fsdecode(b"m\xe9")
    shutil.copytree(made / "teacher", model)
    code, _, refused = stillroom("evaluate", model, "--text", made / "corpus.jsonl")
    assert code == 2 and refused.count("\n") == 1
    assert refused.startswith(f"stillroom: {tmp_path}/m\\udce9: weights and tokenizers can be read only under names")


def test_a_run_under_a_name_that_no_font_draws(tmp_path: Path, stillroom: Command) -> None:
    runs = [write_run(tmp_path / os.fsdecode(name), [2.0, 1.5, 1.2]) for name in (b"r\xff", OBEYED.encode())]
    for run in runs:
        code, said, _ = stillroom("compare", run, "--picture", tmp_path / "p.png")
        assert code == 0 and "curves: " in said
        with Image.open(tmp_path / "p.png") as picture:
            assert picture.size == (1200, 750)
    assert SHOWN in said and "\x1b" not in said and "\u202e" not in said


def test_names_that_a_terminal_would_obey_are_escaped_in_results(
    made: Path, tmp_path: Path, stillroom: Command
) -> None:
    cache = tmp_path / OBEYED
    shutil.copytree(made / "cache", cache)
    for command in ("verify", "reindex"):
        code, said, _ = stillroom(command, cache)
        assert code == 0 and said.startswith(f"{tmp_path}/{SHOWN}: ")
        assert not any(character in said for character in "\x1b\u202e\x9b")
