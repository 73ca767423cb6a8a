"""Whatever a user or a machine does to a command, it ends in one message and an exit code."""

import importlib
import json
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from jobs.cli import app
from jobs.guard import INTERRUPTED, NOTHING_KEPT, guard, make_output_safe
from schemas.errors import CorpusError
from schemas.failures import MEMORY
from tests.caches import build_cache, extraction, write_corpus
from tests.commands import CLI, Program, run
from tests.tiny import tiny_llama, tiny_tokenizer

ROOT = Path(__file__).resolve().parents[2]


def ended(error: BaseException, capsys: pytest.CaptureFixture[str], command: str | None = None) -> tuple[int, str]:
    with pytest.raises(SystemExit) as exit_, guard(SimpleNamespace(invoked_subcommand=command)):
        raise error
    captured = capsys.readouterr()
    assert captured.out == ""
    return int(str(exit_.value.code)), captured.err


def test_errors_become_one_message(capsys: pytest.CaptureFixture[str]) -> None:
    assert ended(CorpusError("bad \x1b[31m\ud800\ntwo"), capsys) == (2, "stillroom: bad \\x1b[31m\\ud800\ntwo\n")
    for error in (MemoryError(), torch.OutOfMemoryError("CUDA out of memory")):
        assert ended(error, capsys) == (2, f"stillroom: {MEMORY}\n")
    code, said = ended(OSError(28, "No space left on device", "/a/b"), capsys)
    assert code == 2 and said.startswith("stillroom: no space left to write /a/b (No space left")
    assert "TMPDIR" in ended(OSError(28, "No space left on device"), capsys)[1]
    code, said = ended(PermissionError(13, "Permission denied", "/a/b"), capsys)
    assert (code, said) == (2, "stillroom: cannot read or write /a/b: Permission denied\n")
    with pytest.raises(ZeroDivisionError), guard():  # an error of the program keeps its traceback
        raise ZeroDivisionError


def test_a_package_that_is_not_there_is_named_with_what_brings_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def said_without(name: str) -> str:
        monkeypatch.setitem(sys.modules, name.partition(".")[0], None)
        with pytest.raises(ModuleNotFoundError) as found:
            importlib.import_module(name)
        code, said = ended(found.value, capsys)
        assert code == 2
        return said

    lacking = "stillroom: this needs the package {}, which is not installed: pip install 'stillroom[{}]'"
    assert said_without("psutil") == lacking.format("psutil", "pipeline") + "\n"
    assert said_without("ray.job_submission") == lacking.format("ray", "pipeline") + "\n"
    either = lacking.format("jinja2", "trainer") + " or pip install 'stillroom[pipeline]'\n"
    assert said_without("jinja2") == either
    for name in ("ray_of_nobody", "json.of_nobody"):  # mistakes of the program keep their traceback
        with pytest.raises(ModuleNotFoundError), guard():
            importlib.import_module(name)


def test_warnings_are_as_harmless_as_errors(capsys: pytest.CaptureFixture[str]) -> None:
    make_output_safe()
    assert logging.lastResort is not None
    logging.lastResort.emit(logging.makeLogRecord({"msg": "%s was left behind", "args": ("a\x1b[31m",)}))
    assert capsys.readouterr().err == "a\\x1b[31m was left behind\n"


def test_every_command_says_what_an_interrupt_keeps(capsys: pytest.CaptureFixture[str]) -> None:
    commands = {str(command.callback.__name__) for command in app.registered_commands if command.callback}
    assert set(INTERRUPTED) <= commands
    for command in commands:
        code, said = ended(KeyboardInterrupt(), capsys, command)
        assert (code, said) == (130, f"stillroom: interrupted; {INTERRUPTED.get(command, NOTHING_KEPT)}\n")
    assert "last checkpoint stays, if there is one yet" in INTERRUPTED["train"]


def stillroom(*arguments: str, **options: object) -> "subprocess.CompletedProcess[str]":
    environment = os.environ | {"PYTHONPATH": str(ROOT)} | dict(options.pop("env", {}))  # type: ignore[call-overload]
    command = [sys.executable, "-m", "jobs.cli", *arguments]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
    return subprocess.run(command, text=True, timeout=120, check=False, env=environment, **streams)  # type: ignore[call-overload,no-any-return]


def closed_pipe(*arguments: str) -> tuple[int, str]:
    """Exit code and stderr of a command whose output nobody reads."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        found = stillroom(*arguments, stdout=writer)
    finally:
        os.close(writer)
    return found.returncode, found.stderr


@pytest.mark.parametrize("command", [["schema", "train"], ["presets"]])
def test_a_closed_pipe_and_a_full_output(command: list[str]) -> None:
    """Whether Python itself prints, or rich does."""
    assert closed_pipe(*command) == (141, "")
    with open("/dev/full", "w") as full:
        found = stillroom(*command, stdout=full)
    assert (
        found.returncode == 2 and found.stderr.startswith("stillroom: no space left") and found.stderr.count("\n") == 1
    )


def test_a_failure_tells_by_its_code_where_nothing_can_be_said() -> None:
    with open("/dev/full", "w") as full:
        assert stillroom("train", "nothing.yaml", stderr=full).returncode == 2


def test_a_console_that_is_not_utf8(tmp_path: Path) -> None:
    for encoding in ("latin-1", "ascii"):
        environment = {"PYTHONIOENCODING": encoding}
        found = stillroom("plan", str(tmp_path / "漢字 👩‍👩‍👧.yaml"), env=environment)
        assert found.returncode == 2 and found.stderr.count("\n") == 1 and "\\u6f22" in found.stderr
        assert stillroom("presets", env=environment).returncode == 0


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sound")
    tiny_llama(folder / "teacher", tiny_tokenizer(folder / "teacher", "bpe"), hidden=16, layers=2, heads=2)
    corpus = write_corpus(folder / "corpus.jsonl")
    build_cache(extraction(folder / "cache", folder / "teacher", corpus, states={"hidden": [2], "mass": [2]}))
    (folder / "train.yaml").write_text(
        f"cache: {folder / 'cache'}\noutput: {folder / 'run'}\nsteps: 100000\ncheckpoint_every: 5\ndevice: cpu\n"
        "loader_workers: 1\nbatch_size: 2\nthreads: 1\nstudent:\n  tokenizer: teacher\n  max_tokens: 32\n"
        "  architecture: {model_type: llama, hidden_size: 8, intermediate_size: 8, num_hidden_layers: 1,"
        " num_attention_heads: 2}\n"
    )
    return folder


# All in one process, because to import torch takes longer than they do; each with a standard output of its own.
EACH = """
import json, os, sys
from jobs.cli import main
codes, (_, commands, output) = [], sys.argv
for command in json.loads(commands):
    if output == "unread":
        reader, writer = os.pipe()
        os.close(reader)
        os.dup2(writer, 1)
        os.close(writer)
        sys.stdout = open(1, "w", closefd=False)
    else:
        sys.stdout = open(os.devnull, "w", encoding=output)
    sys.argv = ["stillroom", *command]
    try:
        main()
        codes.append(0)
    except SystemExit as end:
        codes.append(end.code or 0)
print(json.dumps(codes), file=sys.stderr)
"""


def each(commands: list[list[str]], output: str) -> object:
    """The exit code of each command whose output is `unread`, or has that encoding."""
    done = run(["-c", EACH, json.dumps(commands), output])
    assert done.returncode == 0 and "Traceback" not in done.stderr, done.stderr
    return json.loads(done.stderr.splitlines()[-1])


def test_commands_on_a_cache_end_alike_if_nobody_reads_them(sound: Path) -> None:
    cache = str(sound / "cache")
    assert closed_pipe("inspect", cache)[0] == 141
    rest = [["verify", cache], ["reindex", cache], ["inspect", cache, "--student", str(sound / "teacher")]]
    assert each(rest, "unread") == [141] * 3


def test_shown_text_of_a_cache_on_a_console_that_is_not_utf8(sound: Path) -> None:
    assert each([["inspect", str(sound / "cache")], ["verify", str(sound / "cache")]], "latin-1") == [0, 0]


@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_during_a_training(sound: Path) -> None:
    """A terminal sends it to the whole group, the loader's workers too: one message, and the checkpoints stay."""
    process = Program([*CLI, "train", sound / "train.yaml"], session=True)
    deadline = time.monotonic() + 120
    while not list((sound / "run" / "checkpoints").glob("[!.]*")) and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert "Traceback" not in said, said
    assert said.splitlines()[-1] == f"stillroom: interrupted; {INTERRUPTED['train']}", said
    assert list((sound / "run" / "checkpoints").glob("[!.]*"))


LOST = """
import os, sys
from jobs.guard import guard, heed_interrupts
from schemas.progress import track

class Fragile:
    def __del__(self):
        os.kill(os.getpid(), int(sys.argv[1]))

heed_interrupts()
with guard():
    for item in track("training", "steps", range(9)):
        print(item)
        if item == 4:
            Fragile()
"""


@pytest.mark.usefixtures("interruptible")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_that_python_loses_is_heeded_at_the_next_step(number: signal.Signals) -> None:
    """It ignores every exception in a destructor, as those of thousands of tensors in a step."""
    command = [sys.executable, "-c", LOST, str(int(number))]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout.split()) == (130, ["0", "1", "2", "3", "4"])
    assert done.stderr == f"stillroom: interrupted; {NOTHING_KEPT}\n"


@pytest.mark.usefixtures("interruptible")
def test_a_ctrl_c_amid_the_imports_leaves_no_traceback() -> None:
    begin = "import os, signal, sys; sys.argv = ['stillroom']; import jobs; os.kill(os.getpid(), signal.SIGINT)"
    done = subprocess.run([sys.executable, "-c", begin], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (-signal.SIGINT, "")


def test_a_python_without_docstrings_is_refused_by_its_own_name() -> None:
    done = stillroom("train", "no.yaml", env={"PYTHONOPTIMIZE": "2"})
    assert (done.returncode, done.stderr) == (
        2,
        "stillroom: this Python leaves docstrings out (PYTHONOPTIMIZE=2 or -OO), and transformers cannot do without "
        "them; run it without that\n",
    )
