"""Small extractions on a real Ray, as processes of their own, and what of them must not depend on how they went."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

from schemas.configs.extraction import ExtractionConfig
from schemas.configs.yaml import dump_config
from tests.chats import chat_model
from tests.commands import CLI, ROOT, Program
from tests.corpora import write_lines
from tests.schemas.conversations.cases import CASES
from tests.tiny import TEXTS, tiny_llama, tiny_tokenizer


def make_inputs(folder: Path) -> Path:
    """A teacher and a corpus of some 13,000 tokens, which make 23 units: enough to die in the middle of."""
    tiny_llama(folder / "model", tiny_tokenizer(folder / "model", "bpe"))
    records = [{"id": i, "q": f"{i}. ", "a": f"{text} {i}"} for i, text in enumerate(TEXTS * 10)]
    records[7]["a"] = " ".join(TEXTS[:12])  # too long, and cut
    records[9]["q"] = " ".join(TEXTS[:12])  # too long, and nothing would be left
    records[11]["a"] = " "
    write_lines(folder / "corpus.jsonl", records)
    return folder


def config(folder: Path, output: str, **changes: Any) -> ExtractionConfig:
    """For the inputs in `folder`; an absolute `output` stands for itself."""
    # On two processors two annotators have room beside the actors; every further one would be another import of ours.
    workers = {"cpus": 0.25, "annotator_cpus": 0.75} | changes.pop("workers", {})
    corpus = {"files": [str(folder / "corpus.jsonl")], "prompt": "q", "response": "a", "id": "id"}
    given = {
        "output": folder / output,
        "corpus": corpus | changes.pop("corpus", {}),
        "teacher": {"model": str(folder / "model"), "max_tokens": 128} | changes.pop("teacher", {}),
        "states": {"hidden": [0, "last"], "mass": ["last"], "encoding": "exact"},
        "batching": {"unit_tokens": 600, "batch_tokens": 512},
        "workers": workers,
    }
    return ExtractionConfig.model_validate(given | changes)


def make_conversations(folder: Path) -> Path:
    """A teacher of Qwen 3's template and the fifty conversations of ten kinds, which it mostly takes: some 20 units."""
    chat_model(folder / "model", "qwen3", "bytelevel")
    write_lines(folder / "chats.jsonl", [{"id": n, **case.record} for n, case in enumerate(CASES)])
    return folder


def conversations_config(folder: Path, output: str, **changes: Any) -> ExtractionConfig:
    """For the inputs of `make_conversations`; long ones are cut."""
    corpus: dict[str, Any] = {"files": [str(folder / "chats.jsonl")], "prompt": None, "response": None}
    corpus |= {"conversations": {"tools": "tools", "refused": "skip"}}
    return config(folder, output, corpus=corpus, teacher={"max_tokens": 500}, **changes)


def start_command(asked: ExtractionConfig, working_directory: Path) -> Program:
    """`stillroom extract` as a process of its own, with a Ray of its own; what it says on both streams is one text."""
    arguments = [*CLI, "extract", write_config(asked)]
    return Program(arguments, working_directory, outside_environment(), together=True)


def write_config(asked: ExtractionConfig) -> Path:
    """Where it lies: beside the output."""
    file = asked.output.with_name(f"{asked.output.name}.yaml")
    file.write_text(dump_config(asked), encoding="utf-8")
    return file


def run_command(arguments: list[str], working_directory: Path) -> "subprocess.Popen[str]":
    """`stillroom` of this checkout in a Python that starts anew; what it says on both streams is one text."""
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "jobs.cli", *arguments],
        cwd=working_directory,
        env=outside_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def outside_environment() -> dict[str, str]:
    """That of a command of this checkout which knows no Ray."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    return inherited | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}


def shard_files(cache: Path) -> dict[str, bytes]:
    """All bytes that must not depend on how they came about."""
    paths = [p for part in ("shards", "teacher", "codecs") for p in (cache / part).rglob("*") if p.is_file()]
    return {str(p.relative_to(cache)): p.read_bytes() for p in [*paths, cache / "index.parquet"]}


def num_shards(cache: Path) -> int:
    """How many shards are committed."""
    return len(list((cache / "shards").glob("[0-9]*"))) if cache.exists() else 0


def descendants(of: int, named: str) -> list[psutil.Process]:
    """The living processes below `of` whose name or command line begins with `named`."""
    try:
        found = psutil.Process(of).children(recursive=True)
    except psutil.NoSuchProcess:
        return []
    return [process for process in found if _matches(process, named)]


def _matches(process: psutil.Process, named: str) -> bool:
    try:
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        return process.name().startswith(named) or " ".join(process.cmdline()).startswith(named)
    except psutil.Error:
        return False


def teacher_processes() -> list[psutil.Process]:
    """The teacher actors of this process's Ray, and of nobody else's."""
    return descendants(os.getpid(), "ray::TeacherActor")


def teacher_processes_from_now_on() -> Callable[[], list[psutil.Process]]:
    """Those that are not there yet: Ray ends the ones of an earlier run in its own time."""
    ending = teacher_processes()
    return lambda: [process for process in teacher_processes() if process not in ending]


def wait_until(condition: Callable[[], bool], seconds: float = 120) -> bool:
    """Whether it comes to hold within `seconds`. To look at processes takes milliseconds: what is waited for needs the
    core more."""
    limit = time.monotonic() + seconds
    while (looked := time.monotonic()) < limit:
        if condition():
            return True
        time.sleep(max(0.01, 5 * (time.monotonic() - looked)))
    return False


def when(condition: Callable[[], bool], action: Callable[[], None]) -> threading.Thread:
    """Do `action` in another thread as soon as `condition` holds, within two minutes."""

    def watch() -> None:
        if wait_until(condition):
            action()

    thread = threading.Thread(target=watch)
    thread.start()
    return thread


@contextmanager
def second_node(
    address: str, environment: Mapping[str, str], joined: Callable[[], bool]
) -> Iterator["subprocess.Popen[bytes]"]:
    """Another raylet of the Ray at `address`, as on another machine: with processors and an object store of its own."""
    command = [str(Path(sys.executable).with_name("ray")), "start", f"--address={address}", "--num-cpus=2", "--block"]
    command += [f"--object-store-memory={100 * 2**20}", "--disable-usage-stats"]
    quiet = subprocess.DEVNULL
    node = subprocess.Popen(command, env=environment, stdout=quiet, stderr=quiet)
    try:
        limit = time.monotonic() + 60
        while not joined():
            assert node.poll() is None and time.monotonic() < limit
            time.sleep(0.1)
        yield node
    finally:
        kill_all(node)
        node.wait()


def kill_all(node: "subprocess.Popen[bytes]") -> None:
    """Of a machine that is gone, no process says a last word."""
    for process in [psutil.Process(node.pid), *descendants(node.pid, "")] if node.poll() is None else []:
        with suppress(psutil.NoSuchProcess):
            process.kill()
