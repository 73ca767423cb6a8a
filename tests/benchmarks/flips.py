"""What becomes of bit flips and cuts over every file of a cache, in a training and in `verify`: a table by file.

    python -m tests.benchmarks.flips [COUNT] [CACHE]

500 on a cache of 5 samples that it makes, or on a copy of CACHE. `silent`, `traceback` and what `verify` misses must be
0; `traceback` counts refusals that do not name the shard, too. A few minutes.
"""

import shutil
import sys
import tempfile
from collections import Counter
from pathlib import Path

from rich.console import Console
from rich.progress import track
from rich.table import Column, Table

from tests.flips import damaged, is_verified, make_cache, outcome, read_all, sample_damage

OUTCOMES = ("refused", "identical", "silent", "traceback", "missed by verify")
# Every kind of states.
STATES = {"hidden": [1, 2], "mass": [2], "top_k": {"k": 4}, "sampled": {"draws": 4}, "pooled": {"pooling": "last"}}


def count_outcomes(cache: Path, count: int, seed: int) -> dict[str, Counter[str]]:
    """Outcomes by the name of the damaged file; of shards, what lies in them counts as one."""
    truth = read_all(cache)
    found: dict[str, Counter[str]] = {}
    for damage in track(sample_damage(cache, count, seed), "flipping", total=count, console=Console(stderr=True)):
        parts = damage.path.parts
        name = "/".join(("shards/*", *parts[2:])) if parts[0] == "shards" else damage.path.as_posix()
        with damaged(cache, damage):
            try:
                result = outcome(cache, truth, damage)
            except AssertionError as error:
                result = "traceback"
                print(f"{damage}: {error}", file=sys.stderr)
            missed = is_verified(cache)
        for said in ["silent"] * (result == "silent") + ["missed by verify"] * missed:
            print(f"{damage}: {said}", file=sys.stderr)
        found.setdefault(name, Counter()).update([result] + ["missed by verify"] * missed)
    return found


def main() -> None:
    """Print the table."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 500
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        cache = shutil.copytree(sys.argv[2], folder / "cache") if len(sys.argv) > 2 else make_cache(folder, STATES)
        found = count_outcomes(Path(cache), count, seed=2026)
    table = Table(Column("file", overflow="fold"), *OUTCOMES, title=f"{count} flips and cuts")
    for file, outcomes in sorted(found.items()):
        table.add_row(file, *(str(outcomes[name]) for name in OUTCOMES))
    total = sum(found.values(), Counter[str]())
    table.add_row("all", *(str(total[name]) for name in OUTCOMES), style="bold")
    Console().print(table)


if __name__ == "__main__":
    main()
