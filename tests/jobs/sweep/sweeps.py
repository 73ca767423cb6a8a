"""Small sweeps: their files, over a cache of tests.caches."""

from pathlib import Path
from typing import Any

import yaml

from tests.caches import small_cache
from tests.trainings import small_training, write_held_out


def make_material(folder: Path) -> Path:
    """A cache and held-out texts in `folder`, which is returned."""
    small_cache(folder)
    write_held_out(folder)
    return folder


def base(made: Path, **changes: Any) -> dict[str, Any]:
    """What the runs have in common."""
    return small_training(made, steps=4, evaluation={"texts": str(made / "held_out.jsonl"), "every": 2}) | changes


def write_sweep(path: Path, config: dict[str, Any]) -> Path:
    """The file of a sweep."""
    path.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    return path
