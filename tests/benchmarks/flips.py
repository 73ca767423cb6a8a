"""What becomes of bit flips and cuts over every file of a cache, in reading, a training and `verify`: a table by file.

    python -m tests.benchmarks.flips [COUNT]

500 on each of three caches of 5 samples, of three encodings. The first columns are of reading all that a training may
read; then a student is trained. `silent`, `traceback`, which counts refusals that do not name the shard, too, what is
learnt from and what `verify` misses must be 0. Ten minutes or more.
"""

import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track
from rich.table import Column, Table

from tests.flips import Damage, Truth, damaged, is_verified, learn, make_cache, outcome, read_all, sample_damage

OUTCOMES = ("refused", "identical", "silent", "traceback", "learnt from", "missed by verify")
ENCODINGS: dict[str, Any] = {"exact": "exact", "small": "small", "fp8": {"codec": "fp8"}}
# Every kind of states.
STATES: dict[str, Any] = {"hidden": [1, 2], "mass": [2], "pooled": {"pooling": "last"}, "encoding": "exact"}
STATES |= {"top_k": {"k": 4}, "sampled": {"draws": 4}}


def count_outcomes(cache: Path, count: int, seed: int) -> dict[str, Counter[str]]:
    """Outcomes by the name of the damaged file; of shards, what lies in them counts as one."""
    truths = {read: read(cache) for read in (read_all, learn)}
    found: dict[str, Counter[str]] = {}
    for damage in track(sample_damage(cache, count, seed), "flipping", total=count, console=Console(stderr=True)):
        with damaged(cache, damage):
            outcomes = [_outcome(cache, truth, damage, read) for read, truth in truths.items()]
            said = outcomes[:1]
            said += ["learnt from"] * (outcomes[1] in ("silent", "traceback"))
            said += ["missed by verify"] * is_verified(cache)
        for fault in set(said) - {"refused", "identical"}:
            print(f"{damage}: {fault}", file=sys.stderr)
        found.setdefault(_name(damage), Counter()).update(said)
    return found


def _outcome(cache: Path, truth: Truth, damage: Damage, read: Callable[[Path], Truth]) -> str:
    try:
        return outcome(cache, truth, damage, read)
    except AssertionError as error:
        print(f"{damage}: {error}", file=sys.stderr)
        return "traceback"


def _name(damage: Damage) -> str:
    """Of the damaged file; shards count as one, and so do Zarr's descriptions."""
    parts = damage.path.parts
    if damage.path.name == "zarr.json":
        return "shards/*/**/zarr.json"
    return "/".join(("shards/*", *parts[2:])) if parts[0] == "shards" else damage.path.as_posix()


def _show(title: str, found: dict[str, Counter[str]]) -> None:
    table = Table(Column("file", overflow="fold"), *OUTCOMES, title=title)
    for file, outcomes in sorted(found.items()):
        table.add_row(file, *(str(outcomes[name]) for name in OUTCOMES))
    total = sum(found.values(), Counter[str]())
    table.add_row("all", *(str(total[name]) for name in OUTCOMES), style="bold")
    Console(width=130).print(table)


def main() -> None:
    """Print a table for each cache."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 500
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        caches = {name: make_cache(folder / name, STATES | {"encoding": ENCODINGS[name]}) for name in ENCODINGS}
        for name, cache in caches.items():
            _show(f"{count} flips and cuts, {name}", count_outcomes(cache, count, seed=2026))


if __name__ == "__main__":
    main()
