"""What every objective costs: step time as a ratio to cross-entropy's, and peak memory beyond the student at rest.

    python -m tests.benchmarks.objectives [--rounds 3] [--threads 1]

Student, teacher and texts are those of `tests.benchmarks.step`. Times are CPU seconds of whole steps, taken in turn in
one process, because wall-clock time on a shared machine mostly measures neighbours. Memory is the high-water mark of
one step in a process of its own (Linux), in which freed memory is handed back, as it is not in training.
"""

import argparse
import multiprocessing
import re
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any, get_args

from rich.console import Console
from rich.table import Table

from schemas.configs.losses.kd import Divergence
from schemas.configs.losses.registry import LOSSES
from tests.benchmarks.step import make_cache, make_loop
from tests.trainer.objectives.every import ONE_TOKENIZER, TWO_TOKENIZERS

HALF = {"loss": "ce", "weight": 0.5}
TOP_K, SAMPLED = {"k": 64}, {"draws": 50}
WITH_CE = {name: [HALF, {"loss": name, "weight": 0.5}] for name, kind in LOSSES.items() if kind.student == "causal"}
BOTH: dict[str, list[dict[str, Any]]] = {
    "ce": [{"loss": "ce"}],
    **{f"ce + {name}": WITH_CE[name] for name in TWO_TOKENIZERS if name in WITH_CE and name != "ce"},
    "ce + sra, cos and geo": [HALF, {"loss": "sra", "weight": 0.5, "span_kd": 0}],
    "ce + mta": [{"loss": "ce"}, {"loss": "mta"}],
}
KD = {"loss": "kd", "weight": 0.5}
SAME = BOTH | {f"ce + {name}": WITH_CE[name] for name in ONE_TOKENIZER if name in WITH_CE}
SAME |= {f"ce + kd, {name}": [HALF, KD | {"divergence": name}] for name in get_args(Divergence)}
SAME |= {f"ce + kd, {kind}": [HALF, KD | {"logits": kind}] for kind in ("top_k", "sampled")}


def cpu_seconds(loops: dict[str, Any], rounds: int) -> dict[str, list[float]]:
    """Of each loop's steps, in turn; the first round warms up."""
    seconds: dict[str, list[float]] = {name: [] for name in loops}
    for number in range(rounds + 1):
        for name, loop in loops.items():
            started = time.process_time()
            loop.step(number)
            if number:
                seconds[name].append(time.process_time() - started)
    return seconds


def peak_megabytes(folder: Path, objective: list[dict[str, Any]], tokenizer: str) -> float:
    """Most memory of a second step, beyond what is held between steps."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_peak, (folder, objective, tokenizer))


def _peak(folder: Path, objective: list[dict[str, Any]], tokenizer: str) -> float:
    loop = make_loop(folder, objective, tokenizer, 1, keep_freed=False)  # what is kept would hide what a step takes
    loop.step(0)
    before = _status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # sets the high-water mark back to what is held now
    loop.step(1)
    return _status("VmHWM") - before


def _status(field: str) -> float:
    found = re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        make_cache(folder, {"top_k": TOP_K, "sampled": SAMPLED}, keep_embeddings=True)
        for label, tokenizer, objectives in (("one", "teacher", SAME), ("two", str(folder / "other"), BOTH)):
            peaks = {name: peak_megabytes(folder, objective, tokenizer) for name, objective in objectives.items()}
            loops = {name: make_loop(folder, item, tokenizer, arguments.threads) for name, item in objectives.items()}
            seconds = cpu_seconds(loops, arguments.rounds)
            table = Table("objective", "step / ce step", "CPU ms", "peak MB", title=f"{label} tokenizer(s)")
            for name in objectives:
                ratio = statistics.median(a / b for a, b in zip(seconds[name], seconds["ce"], strict=True))
                spent = 1000 * statistics.median(seconds[name])
                table.add_row(name, f"{ratio:.2f}", f"{spent:.0f}", f"{peaks[name]:.0f}")
            Console(width=100).print(table)


if __name__ == "__main__":
    main()
