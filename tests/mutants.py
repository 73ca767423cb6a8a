"""How much of a wrong program the tests notice: mutants of five rooms, a seeded sample of each, run by mutmut.

    python -m tests.mutants [--rooms cache schedule] [--sample 40] [--seed 0] [--processes 2]

A mutant is the code with one small change (a number, an operator, an argument, a text). One is killed if a test that
runs the changed function fails, or ends the process. One that takes ten times as long as its tests is stopped: on a
busy machine that may be chance, so it is counted apart and not as killed. Generating and a first run of all chosen
tests cost minutes; a mutant then costs some seconds. What was not killed is printed as diffs, to be read one by one.
Needs mutmut; `[tool.mutmut]` in pyproject.toml names the files and tests.
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
SHOWN = ("killed", "survived", "no tests", "timeout")
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
    """`killed` for a failed test or a crash."""
    return "killed" if code is None else OUTCOMES.get(code, "killed")


def run_mutants(names: list[str], processes: int) -> None:
    """Run the tests of all named mutants: in one call, because each begins with a run of their tests without any."""
    for first in range(0, len(names), AT_ONCE):
        mutmut("run", "--max-children", str(processes), *names[first : first + AT_ONCE])


def main() -> None:
    """Print the diffs of what was not killed, and a table by room."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rooms", nargs="+", choices=ROOMS, default=list(ROOMS))
    parser.add_argument("--sample", type=int, default=40, help="mutants per room")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=2, help="mutants at once")
    chosen = parser.parse_args()
    console = Console()
    shutil.rmtree(MUTANTS, ignore_errors=True)
    prepared = mutmut("run", "prepare.only")  # generates, and learns which test runs which function
    if "nothing matches" not in prepared.stderr + prepared.stdout:
        sys.exit(f"mutmut could not begin:\n{prepared.stdout[-3000:]}\n{prepared.stderr[-3000:]}")
    picked = {room: pick(room, chosen.sample, chosen.seed) for room in chosen.rooms}
    run_mutants([name for names in picked.values() for name in names], chosen.processes)
    table = Table("room", box=None)
    for heading in ("mutants", "run", *SHOWN, "share"):
        table.add_column(heading, justify="right")
    for room, names in picked.items():
        known = outcomes(room)
        found = {name: known[name] for name in names if known[name] is not None}
        if broken := [name for name, code in found.items() if code in NOT_RUN]:
            sys.exit(f"pytest could not begin for {len(broken)} mutants of {room}, e.g. {broken[0]}")
        counts = Counter(map(outcome, found.values()))
        share = f"{100 * counts['killed'] / len(found):.0f} %" if found else "–"
        table.add_row(room, str(len(known)), str(len(found)), *(str(counts[name]) for name in SHOWN), share)
        show([name for name, code in found.items() if outcome(code) != "killed"], console)
    console.print(table)


def pick(room: str, sample: int, seed: int) -> list[str]:
    """The names of some mutants of a room, the same ones for the same code and seed."""
    names = sorted(outcomes(room))
    return sorted(random.Random(seed).sample(names, min(sample, len(names))))


def show(names: list[str], console: Console) -> None:
    """Print what each mutant changes."""
    for name in names:
        lines = mutmut("show", name).stdout.splitlines()
        changed = [line for line in lines if line[:1] in "+-" and line[:3] not in ("+++", "---")]
        console.print(f"\n{name}", *changed, sep="\n", markup=False, highlight=False, soft_wrap=True)


if __name__ == "__main__":
    main()
