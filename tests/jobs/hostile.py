"""Hostile inputs: every file that a command reads, flipped, cut, edited or replaced, and the command run over it.

A case is a pure function of its number, so a longer run can be started by hand and any of its cases looked at again:

    python -m tests.jobs.hostile --cases 400 [--first 0]
"""

import argparse
import contextlib
import io
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from jobs.cli import main
from tests.caches import build_cache, extraction, write_corpus
from tests.tiny import TEXTS, tiny_bert, tiny_llama, tiny_tokenizer

SECONDS = 10  # in which a command must have ended
FEW_SHARDS = {"unit_tokens": 900}  # of a world that is copied hundreds of times

Damage = Callable[[Path, random.Random], None]

PLAN = ("plan", "extract.yaml")
TRAIN = ("train", "train.yaml")
AGAIN = ("train", "again.yaml")  # of a run that is there
EVALUATE = ("evaluate", "teacher", "--text", "held.jsonl")
PAIRS = ("evaluate", "encoder", "--pairs", "pairs.csv")
INSPECT, VERIFY = ("inspect", "cache"), ("verify", "cache")
COMPARE = ("compare", "run")
READS_CACHE = (INSPECT, VERIFY, TRAIN)
# Which commands read which files, as globs.
READERS: dict[str, tuple[tuple[str, ...], ...]] = {
    "extract.yaml": (PLAN,),
    "train.yaml": (TRAIN,),
    "corpus.jsonl": (PLAN,),
    "corpus.csv": (("plan", "extract.yaml", "--set", "corpus.files=[corpus.csv]"),),
    "corpus.parquet": (("plan", "extract.yaml", "--set", "corpus.files=[corpus.parquet]"),),
    "held.jsonl": (EVALUATE, TRAIN),
    "pairs.csv": (PAIRS,),
    "teacher/*.json": (PLAN, EVALUATE),
    "teacher/model.safetensors": (EVALUATE,),
    "encoder/*.json": (PAIRS,),
    "cache/cache.json": READS_CACHE,
    "cache/index.parquet": READS_CACHE,
    "cache/teacher/*": (VERIFY, TRAIN),
    "cache/shards/00000/shard.json": READS_CACHE,
    "cache/shards/00000/samples.arrow": READS_CACHE,
    "cache/shards/00000/states.zarr/**/*": (VERIFY, TRAIN),
    "run/*.json*": (COMPARE, AGAIN),
    "run/config.yaml": (("train", "run/config.yaml"),),
}
# Arguments alone, which need no file.
ARGUMENTS: tuple[tuple[str, ...], ...] = (
    ("presets", "\x1b[31m"),
    ("presets", "../train-ce"),
    ("schema", "\ud800"),
    ("schema", "x" * 10_000),
    ("inspect", "cache", "--sample", "\x1b]0;title\x07"),
    ("inspect", "s3://bucket/cache"),
    ("plan", "extract.yaml", "--set", "output=s3://bucket/cache"),
    ("plan", "extract.yaml", "--set", "corpus.files=[s3://bucket/c.jsonl]"),
    ("plan", "extract.yaml", "--set", "batching.unit_tokens=" + "9" * 400),
    ("train", "train.yaml", "--set", "threads=1000000000"),
    ("train", "train.yaml", "--set", "student.architecture.hidden_size=1073741824"),
    ("train", "train.yaml", "--set", "student.architecture.num_hidden_layers=100000000"),
    ("train", "train.yaml", "--set", "student.architecture.hidden_size=-8"),
    ("train", "train.yaml", "--set", "student.architecture.num_attention_heads=0"),
    ("train", "train.yaml", "--set", "optimizer.betas=[1,1]"),
    ("train", "train.yaml", "--set", "output=/proc/nothing"),
    ("train", "train.yaml", "--set", "output=a\x00b"),
    ("evaluate", "teacher", "--text", "/dev/zero"),
    ("evaluate", "/dev/null", "--text", "held.jsonl"),
    ("compare", "run", "--picture", "/proc/x.png"),
    ("verify", "/dev/zero"),
)

VALUES: tuple[Any, ...] = (
    None,
    True,
    -1,
    0,
    1 << 40,
    10**400,
    1e308,
    float("nan"),
    float("-inf"),
    "",
    "\ud800",
    "a\x00b",
    "\x1b[31mred\x1b[0m",
    "../" * 30,
    "x" * 100_000,
    [],
    {},
    [[[[[[[[[[]]]]]]]]]],
    {"a": {"b": {"c": None}}},
)


@dataclass(frozen=True)
class Case:
    """One damaged file, or none, and one command."""

    number: int
    file: str
    damage: str
    command: tuple[str, ...]


@dataclass(frozen=True)
class Outcome:
    """How a command ended."""

    code: int | None  # None for an exception that came through
    seconds: float
    said: str

    @property
    def is_sound(self) -> bool:
        """A message and an exit code, in time."""
        return self.code is not None and "Traceback" not in self.said and self.seconds < SECONDS


def make_world(folder: Path) -> None:
    """Everything sound: teacher, encoder, texts, a cache, a finished run, configs. Paths are relative to `folder`."""
    tiny_llama(folder / "teacher", tiny_tokenizer(folder / "teacher", "bpe"), hidden=16, layers=2, heads=2)
    tiny_bert(folder / "encoder", tiny_tokenizer(folder / "encoder", "wordpiece"), hidden=16, heads=2)
    with contextlib.chdir(folder):
        _write_texts()
        states = {"hidden": [2], "mass": [2]}
        config = extraction(Path("cache"), Path("teacher"), Path("corpus.jsonl"), states=states, batching=FEW_SHARDS)
        build_cache(config)
        _write_configs(json.loads(config.model_dump_json()))
        outcome = run(AGAIN)
    assert outcome.code == 0, outcome.said


def _write_texts() -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    corpus = write_corpus(Path("corpus.jsonl"))
    records = [json.loads(line) for line in corpus.read_text().splitlines()]
    columns = {name: [str(record.get(name, "")) for record in records] for name in records[0]}
    pq.write_table(pa.table(columns), "corpus.parquet")
    rows = [list(columns), *zip(*columns.values(), strict=True)]
    Path("corpus.csv").write_text(
        "".join(",".join(f'"{c.replace(chr(34), chr(34) * 2)}"' for c in r) + "\n" for r in rows)
    )
    Path("held.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in TEXTS[:4]))
    pairs = "".join(f'"{a}","{b}",{n}\n' for n, (a, b) in enumerate(zip(TEXTS[:6], TEXTS[6:12], strict=True)))
    Path("pairs.csv").write_text(pairs)
    for name in ("modules.json", "config_sentence_transformers.json"):
        assert not Path("encoder", name).exists()
    Path("encoder/modules.json").write_text(
        json.dumps(
            [
                {"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"},
                {"idx": 1, "name": "1", "path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
            ]
        )
    )
    Path("encoder/1_Pooling").mkdir()
    Path("encoder/1_Pooling/config.json").write_text(
        json.dumps({"word_embedding_dimension": 16, "pooling_mode_mean_tokens": True})
    )


def _write_configs(extract: dict[str, Any]) -> None:
    Path("extract.yaml").write_text(yaml.safe_dump(extract | {"output": "new-cache"}))
    size = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    train = {
        "cache": "cache",
        "output": "new-run",
        "student": {"architecture": {"model_type": "llama", **size}, "tokenizer": "teacher", "max_tokens": 32},
        "objective": [{"loss": "ce"}, {"loss": "sra", "teacher_layer": 2}],
        "steps": 1,
        "batch_size": 2,
        "device": "cpu",
        "threads": 1,
        "evaluation": {"texts": "held.jsonl", "limit": 2},
    }
    Path("train.yaml").write_text(yaml.safe_dump(train))
    Path("again.yaml").write_text(yaml.safe_dump(train | {"output": "run"}))


def make_case(world: Path, number: int) -> tuple[Case, Damage | None]:
    """The case of a number: every file and every argument in turn, the damage at random."""
    turns: list[tuple[str, tuple[str, ...]]] = [("", arguments) for arguments in ARGUMENTS]
    for pattern, commands in READERS.items():
        for path in sorted(world.glob(pattern)):
            if path.is_file():
                turns += [(path.relative_to(world).as_posix(), command) for command in commands]
    order = random.Random(0)
    order.shuffle(turns)
    file, command = turns[number % len(turns)]
    if not file:
        return Case(number, "", "arguments", command), None
    names = list(DAMAGES)
    name = random.Random(number).choice(names)
    return Case(number, file, name, command), DAMAGES[name]


def run_case(world: Path, folder: Path, number: int) -> tuple[Case, Outcome]:
    """Copy the world to `folder`, damage it, run the command there."""
    case, damage = make_case(world, number)
    shutil.copytree(world, folder)
    try:
        if damage is not None:
            damage(folder / case.file, random.Random(number))
        with contextlib.chdir(folder):
            return case, run(case.command)
    finally:
        shutil.rmtree(folder)


def run(arguments: tuple[str, ...]) -> Outcome:
    """The command line in this process, stopped after SECONDS."""
    said, started, argv = io.StringIO(), time.monotonic(), sys.argv
    before = signal.signal(signal.SIGALRM, _stop)
    signal.alarm(SECONDS)
    sys.argv = ["stillroom", *arguments]
    code: int | None = None
    try:
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            main()
    except SystemExit as exit_:
        code = exit_.code if isinstance(exit_.code, int) else 0
    except Exception:  # noqa: BLE001 - whatever came through is what is looked for
        said.write(traceback.format_exc())
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
        sys.argv = argv
    return Outcome(code, time.monotonic() - started, said.getvalue())


class NoEndError(Exception):
    """A command that did not end in time."""


def _stop(*_: object) -> None:
    raise NoEndError(f"no end in {SECONDS} s")


def _flip(path: Path, chance: random.Random) -> None:
    content = bytearray(path.read_bytes())
    for _ in range(chance.choice([1, 1, 8])):
        if content:
            content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
    path.write_bytes(content)


def _cut(path: Path, chance: random.Random) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: chance.randrange(len(content) + 1)])


def _insert(path: Path, chance: random.Random) -> None:
    content, at = path.read_bytes(), chance.randrange(path.stat().st_size + 1)
    path.write_bytes(content[:at] + chance.randbytes(chance.choice([1, 100])) + content[at:])


def _nest(path: Path, chance: random.Random) -> None:
    path.write_bytes(chance.choice([b"[", b'{"a":', b"a: {"]) * 50_000)


def _pipe(path: Path, chance: random.Random) -> None:
    path.unlink()
    os.mkfifo(path)


def _zero(path: Path, chance: random.Random) -> None:
    path.unlink()
    path.symlink_to("/dev/zero")


def _folder(path: Path, chance: random.Random) -> None:
    path.unlink()
    path.mkdir()


def _sparse(path: Path, chance: random.Random) -> None:
    with path.open("r+b") as file:
        file.truncate(1 << 32)


def _edit(path: Path, chance: random.Random) -> None:
    """One value of one line of JSON, or of a YAML, is another or gone; of any other file, a number of its text."""
    text = path.read_bytes().decode("utf-8", errors="surrogateescape")
    lines = text.splitlines() if path.suffix == ".jsonl" else [text]
    at = chance.randrange(len(lines)) if lines else 0
    try:
        value = yaml.safe_load(text) if path.suffix == ".yaml" else json.loads(lines[at])
    except (ValueError, yaml.YAMLError, IndexError):
        _insert(path, chance)
        return
    places = list(_places(value))
    container, key = chance.choice(places) if places else (None, None)
    if container is not None:
        if chance.random() < 0.2:
            del container[key]
        else:
            container[key] = chance.choice(VALUES)
    lines[at] = json.dumps(value)
    path.write_text("\n".join(lines) + "\n")


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield value, key
        yield from _places(item)


DAMAGES: dict[str, Damage] = {
    "flip": _flip,
    "flip again": _flip,
    "cut": _cut,
    "insert": _insert,
    "edit": _edit,
    "edit again": _edit,
    "edit once more": _edit,
    "nest": _nest,
    "pipe": _pipe,
    "zero": _zero,
    "folder": _folder,
    "sparse": _sparse,
}


def _main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=400)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--show", action="store_true", help="print what every command said")
    options = parser.parse_args()
    codes: dict[int | None, int] = {}
    bad, slowest = 0, 0.0
    with tempfile.TemporaryDirectory() as made:
        world = Path(made, "world")
        world.mkdir()
        make_world(world)
        for number in range(options.first, options.first + options.cases):
            case, outcome = run_case(world, Path(made, "case"), number)
            codes[outcome.code] = codes.get(outcome.code, 0) + 1
            slowest = max(slowest, outcome.seconds)
            if not outcome.is_sound or options.show:
                bad += not outcome.is_sound
                print(f"{case}\n{outcome.code} after {outcome.seconds:.1f} s\n{outcome.said[-3000:]}\n", flush=True)
    print(f"{options.cases} cases, exit codes {codes}, {bad} bad, slowest {slowest:.1f} s")
    sys.exit(bad > 0)


if __name__ == "__main__":
    _main()
