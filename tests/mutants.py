"""How much of a wrong program the tests notice: mutants of five rooms, a seeded sample of each, run by mutmut.

    python -m tests.mutants [--rooms cache schedule] [--sample 150] [--seed 0]

A mutant is the code with one small change (a number, an operator, an argument). One is killed if a test that runs the
changed function fails. Generating and a first run of all chosen tests cost minutes; a mutant then costs a second or
two. Survivors are printed as diffs, to be read one by one. Needs mutmut; `[tool.mutmut]` in pyproject.toml names the
files and tests.
"""

import argparse
import json
import random
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

from rich.console import Console
from rich.progress import track
from rich.table import Table

MUTANTS = Path("mutants")
ROOMS = {
    "cache": "schemas/cache",
    "alignment": "trainer/alignment",
    "kernels": "trainer/objectives/kernels",
    "optimisation": "trainer/optimisation",
    "schedule": "pipeline/cluster/schedule",
}
# What mutmut records of a mutant: the exit code of pytest, or its own.
OUTCOMES = {0: "survived", 5: "no tests", 33: "no tests", 36: "timeout", 24: "timeout", -24: "timeout"}
NOT_RUN = (-1, 255)  # pytest could not even begin: nothing was noticed
AT_ONCE = 400  # names in one call


def mutmut(*arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run mutmut in this folder."""
    command = [sys.executable, "-m", "mutmut", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def outcomes(room: str) -> dict[str, int | None]:
    """Exit code by mutant of one room; None for those that were not run."""
    found: dict[str, int | None] = {}
    for path in sorted(MUTANTS.rglob("*.py.meta")):
        if path.relative_to(MUTANTS).as_posix().startswith(ROOMS[room]):
            found |= json.loads(path.read_text(encoding="utf-8"))["exit_code_by_key"]
    return found


def outcome(code: int | None) -> str:
    """`killed` for a failed test or a crash; what is stopped for its time was noticed too."""
    return "killed" if code is None or code not in OUTCOMES else OUTCOMES[code]


def main() -> None:
    """Print a table by room and the diffs of what survived."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rooms", nargs="+", choices=ROOMS, default=list(ROOMS))
    parser.add_argument("--sample", type=int, default=150, help="mutants per room")
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    console = Console()
    shutil.rmtree(MUTANTS, ignore_errors=True)
    prepared = mutmut("run", "prepare.only")  # generates, and learns which test runs which function
    if "nothing matches" not in prepared.stderr + prepared.stdout:
        sys.exit(f"mutmut could not begin:\n{prepared.stdout[-3000:]}\n{prepared.stderr[-3000:]}")
    table = Table("room", box=None)
    for heading in ("mutants", "run", "killed", "timeout", "survived", "no tests", "score"):
        table.add_column(heading, justify="right")
    survivors: list[str] = []
    for room in chosen.rooms:
        names = sorted(outcomes(room))
        picked = sorted(random.Random(chosen.seed).sample(names, min(chosen.sample, len(names))))
        for first in track(range(0, len(picked), AT_ONCE), room, console=Console(stderr=True)):
            mutmut("run", "--max-children", "2", *picked[first : first + AT_ONCE])
        found = {name: code for name, code in outcomes(room).items() if name in set(picked) and code is not None}
        if broken := [name for name, code in found.items() if code in NOT_RUN]:
            sys.exit(f"pytest could not begin for {len(broken)} mutants of {room}, e.g. {broken[0]}")
        counts = Counter(map(outcome, found.values()))
        noticed = counts["killed"] + counts["timeout"]
        row = [counts[name] for name in ("killed", "timeout", "survived", "no tests")]
        score = f"{100 * noticed / len(found):.0f} %" if found else "–"
        table.add_row(room, *map(str, (len(names), len(found), *row)), score)
        survivors += [name for name, code in found.items() if outcome(code) in ("survived", "no tests")]
    for name in survivors:
        lines = mutmut("show", name).stdout.splitlines()
        changed = [line for line in lines if line[:1] in "+-" and line[:3] not in ("+++", "---")]
        console.print(f"\n{name}", *changed, sep="\n", markup=False, highlight=False, soft_wrap=True)
    console.print(table)


if __name__ == "__main__":
    main()
