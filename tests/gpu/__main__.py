"""`make gpu`: what must hold on a machine with a GPU, and how fast it is there. Some minutes; needs no Ray.

    python -m tests.gpu [CHECK …] [--samples N] [--json FILE]

Prints a table; `--json` keeps its rows, the device and the versions as well. Without a GPU it says so and does nothing.
"""

import argparse
import json
import sys
import tempfile
import time
import traceback
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from tests.gpu.checks import CHECKS
from tests.gpu.models import make_corpus, make_teacher


def main() -> None:
    """Print a row for every figure; exit 1 if a check fails."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checks", nargs="*", default=list(CHECKS), help=", ".join(CHECKS))
    parser.add_argument("--samples", type=int, default=400)
    parser.add_argument("--json", type=Path, help="where the figures are kept, e.g. gpu.json")
    chosen = parser.parse_args()
    if not torch.cuda.is_available():
        print("torch sees no GPU here, so nothing was checked; run this where there is one")
        return
    figures: list[dict[str, str]] = []
    table, failed = Table("check", "what", "figure", title=torch.cuda.get_device_name(), box=None), 0
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        make_teacher(folder)
        make_corpus(folder, chosen.samples)
        for name in chosen.checks:
            started = time.monotonic()
            try:
                for what, figure in CHECKS[name](folder):
                    table.add_row(name, what, figure)
                    figures.append({"check": name, "what": what, "figure": figure})
                    print(f"{name}: {what}: {figure}", flush=True)
            # Whatever fails, the other checks are still worth their minutes on a lent machine.
            except Exception:  # noqa: BLE001
                failed += 1
                traceback.print_exc()
                table.add_row(name, "FAILED", "see above")
            table.add_row(name, "seconds", f"{time.monotonic() - started:.0f}")
    Console(width=150).print(table)
    if chosen.json:
        about = {"device": torch.cuda.get_device_name(), "torch": torch.__version__, "failed": failed}
        chosen.json.write_text(json.dumps(about | {"figures": figures}, indent=2) + "\n", encoding="utf-8")
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
