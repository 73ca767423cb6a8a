"""Everything sound that a user can hand over, made once; and for each input a copy of it, which it makes hostile."""

import contextlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.caches import extend_here, extraction, publish_here
from tests.corpora import write_lines
from tests.jobs import hostile
from tests.pipeline.importing.foreign import distillkit_rows, write_speculators
from tests.tiny import TEXTS

Change = Callable[[], object]  # in the working directory

PAYLOAD = "import os\nopen(os.environ['STILLROOM_PWNED'], 'w').close()\n"


@dataclass(frozen=True)
class Input:
    """A hostile input, the command that is given it, and what it must answer."""

    change: Change
    command: tuple[str, ...]
    said: str
    code: int = 2


def make_world(folder: Path) -> None:
    """That of `tests.jobs.hostile`, a cache with codecs and added layers, kept tokens, sources of imports, a sweep."""
    hostile.make_world(folder)
    with contextlib.chdir(folder):
        _grow_a_cache()
        _write_sources()
        _write_more_configs()


def _grow_a_cache() -> None:
    given: dict[str, Any] = {"mass": [2], "dtype": "bfloat16", "encoding": "small"}
    first, both = ({"hidden": layers} | given for layers in ([1], [1, 2]))
    before, after = (
        extraction(Path("grown"), Path("teacher"), Path("corpus.jsonl"), states=states, batching=hostile.FEW_SHARDS)
        for states in (first, both)
    )
    publish_here(before, lambda line: None)
    extend_here(after)


def _write_sources() -> None:
    vocabulary = json.loads(Path("teacher/config.json").read_text())["vocab_size"]
    write_lines(Path("rows.jsonl"), distillkit_rows(Path("teacher"), TEXTS[:2], k=vocabulary - 1))
    write_speculators(Path("prepared"), Path("teacher"), TEXTS[:2], [1, 2])


def _write_more_configs() -> None:
    teacher = {"model": "teacher", "max_tokens": 96}
    write("import.yaml", {"output": "imported", "layout": "distillkit", "files": ["rows.jsonl"], "teacher": teacher})
    states = {"output": "imported", "layout": "speculators", "files": ["prepared"], "layers": [1, 2]}
    write("states.yaml", states | {"teacher": teacher})
    write("sweep.yaml", {"base": "train.yaml", "output": "sweep", "grid": {"optimizer.lr": [0.1]}})
    said = {"cache": "cache", "model": "run", "output": "said.jsonl", "max_new_tokens": 2}
    write("generate.yaml", said | {"limit": 1, "device": "cpu"})
    train = yaml.safe_load(Path("train.yaml").read_text())
    write("kept.yaml", train | {"keep_tokens": True, "tokens_folder": "tokens"})
    write("grown.yaml", train | {"cache": "grown"})
    assert hostile.run(("train", "kept.yaml")).code == 0
    shutil.rmtree("new-run")


def write(name: str, value: Any) -> None:
    """A YAML, in the working directory."""
    Path(name).write_text(yaml.safe_dump(value))


def edit(name: str, **changes: Any) -> Path:
    """Fields of a JSON or YAML file, in the working directory; dots lead into its sections."""
    path = Path(name)
    data = yaml.safe_load(path.read_text()) if path.suffix == ".yaml" else json.loads(path.read_text())
    for key, value in changes.items():
        *sections, last = key.split("__")
        place = data
        for section in sections:
            place = place[section]
        place[last] = value
    path.write_text(yaml.safe_dump(data) if path.suffix == ".yaml" else json.dumps(data))
    return path


def put(name: str, content: bytes | str) -> Path:
    """A file of that content, in place of what is there."""
    path = remove(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass"))
    return path


def remove(name: str) -> Path:
    """A file or a folder, if it is there."""
    path = Path(name)
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    return path


def nothing() -> None:
    """What is hostile is the command's arguments."""


def pipe(name: str) -> Path:
    """A FIFO, from which nobody will ever write."""
    path = remove(name)
    os.mkfifo(path)
    return path


def link(name: str, target: str = "/dev/zero") -> Path:
    """A link, in place of what is there."""
    path = remove(name)
    path.symlink_to(target)
    return path


def sparse(name: str, size: int = 1 << 42) -> Path:
    """Terabytes of zeros that take no room, after what is there."""
    os.truncate(name, size)
    return Path(name)
