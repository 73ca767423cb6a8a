"""SIGTERM and Ctrl-C in every command, at a random moment; the same command is then run to its end, and must give what
an undisturbed one gives."""

import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import yaml

from tests.benchmarks.chaos.trial import Started, Tally, interrupt, judge, terminate, until
from tests.caches import extraction
from tests.corpora import write_lines
from tests.files import damage
from tests.jobs.hostile_inputs.world import make_world

SIGNALS: dict[str, tuple[Callable[[Started], bool], tuple[int, ...]]] = {
    "Ctrl-C": (interrupt, (0, 130, -signal.SIGINT)),
    "SIGTERM": (terminate, (0, 130, -signal.SIGTERM, -signal.SIGINT)),  # the latter two amid imports
}


@dataclass(frozen=True)
class Command:
    """What is run in a copy of the world, and which files must come out the same."""

    arguments: tuple[str, ...]
    made: str = ""  # a pattern
    prepare: Callable[[Path], None] = lambda world: None


def write_world(folder: Path) -> None:
    """That of the hostile inputs, all of it sound, with longer trainings, a longer corpus to extend by, and damage."""
    make_world(folder)
    train = yaml.safe_load((folder / "train.yaml").read_text()) | {"steps": 200, "checkpoint_every": 20}
    (folder / "train.yaml").write_text(yaml.safe_dump(train))
    asked = extraction(Path("extracted"), Path("teacher"), Path("corpus.jsonl"), states={"hidden": [2], "mass": [2]})
    config = asked.model_dump(mode="json") | {"workers": {"cpus": 0.5, "annotator_cpus": 0.5}}
    (folder / "extract.yaml").write_text(yaml.safe_dump(config))
    (folder / "extend.yaml").write_text(yaml.safe_dump(config | {"output": "cache"}))
    (folder / "processes.yaml").write_text(yaml.safe_dump(_sweep("processes", count=2)))
    (folder / "sequence.yaml").write_text(yaml.safe_dump(_sweep("sequence")))


def _sweep(kind: str, **workers: Any) -> dict[str, Any]:
    grid = {"optimizer.lr": [0.1, 0.01]}
    return {"base": "train.yaml", "output": "sweep", "grid": grid, "workers": {"kind": kind, **workers}}


def _grow(world: Path) -> None:
    more = [{"id": f"more{n}", "prompt": "And ", "text": f"then {n} more cats went home."} for n in range(40)]
    lines = (world / "corpus.jsonl").read_text()
    write_lines(world / "corpus.jsonl", more)
    (world / "corpus.jsonl").write_text(lines + (world / "corpus.jsonl").read_text())


def _damage(world: Path) -> None:
    damage(world / "cache/shards/00001/states.zarr/hidden/2/c/0/0")


COMMANDS: dict[str, Command] = {
    "plan": Command(("plan", "extract.yaml")),
    "plan --probe": Command(("plan", "extract.yaml", "--probe")),
    "extract": Command(("extract", "extract.yaml"), "extracted/[!e]*/**/*"),
    "extend": Command(("extend", "extend.yaml"), "cache/[!e]*/**/*", _grow),
    "import": Command(("import", "import.yaml"), "imported/[!e]*/**/*"),
    "inspect": Command(("inspect", "cache")),
    "inspect --student": Command(("inspect", "cache", "--student", "teacher")),
    "verify": Command(("verify", "cache")),
    "verify --replay": Command(("verify", "cache", "--replay", "5", "--teacher", "teacher")),
    "repair": Command(("repair", "cache"), "cache/shards/*/shard.json", _damage),
    "diff": Command(("diff", "cache", "cache")),
    "reindex": Command(("reindex", "cache"), "cache/index.parquet"),
    "train": Command(("train", "train.yaml"), "new-run/model/*"),
    "sweep": Command(("sweep", "sequence.yaml"), "sweep/runs/*/model/*"),
    "sweep, in processes": Command(("sweep", "processes.yaml"), "sweep/runs/*/model/*"),
    "generate": Command(("generate", "generate.yaml"), "said.jsonl"),
    "evaluate": Command(("evaluate", "teacher", "--text", "held.jsonl")),
    "compare": Command(("compare", "run", "--picture", "curves.png"), "curves.png"),
}


def disturb_commands(folder: Path, names: list[str], random: Random, tally: Tally) -> None:
    """Each of `names` once by every signal."""
    world = folder / "sound"
    world.mkdir()
    write_world(world)
    for name in names:
        command = COMMANDS[name]
        began = time.monotonic()
        wanted = _finish(folder, world, command, "undisturbed", tally)
        seconds = time.monotonic() - began
        for name_of_signal, (strike, allowed) in SIGNALS.items():
            kind = f"{name_of_signal} in {name}"
            here = _copy(folder, world, command)
            started = Started(command.arguments, here)
            moment = time.monotonic() + random.uniform(0.02, 0.7) * seconds  # the first run has read files from a disk
            struck = until(started, lambda at=moment: time.monotonic() > at) and strike(started)  # type: ignore[misc]
            (tally.events if struck else tally.missed)[kind] += 1
            ended = started.end()
            judge(kind, ended, allowed, tally)
            print(f"{kind:<34}{'' if struck else 'missed, '}status {ended.code}, of {seconds:.1f} s", flush=True)
            found = _made(here, command) if ended.code == 0 else _finish(folder, here, command, kind, tally)
            tally.compared[kind] += 1
            if found != wanted:
                odd = sorted(name for name in found.keys() | wanted.keys() if found.get(name) != wanted.get(name))
                tally.complain(kind, f"not what an undisturbed one gives: {odd[:5]}")
            shutil.rmtree(here)


def _copy(folder: Path, world: Path, command: Command) -> Path:
    here = Path(shutil.copytree(world, folder / "here"))
    command.prepare(here)
    return here


def _finish(folder: Path, here: Path, command: Command, kind: str, tally: Tally) -> dict[str, bytes]:
    """What it makes, run to its end; in a copy of its own where nothing was begun."""
    fresh = here.name == "sound"
    here = _copy(folder, here, command) if fresh else here
    judge(kind, Started(command.arguments, here).end(), (0,), tally)
    made = _made(here, command)
    if fresh:
        shutil.rmtree(here)
    return made


def _made(here: Path, command: Command) -> dict[str, bytes]:
    return {str(path.relative_to(here)): path.read_bytes() for path in here.glob(command.made or "-") if path.is_file()}
