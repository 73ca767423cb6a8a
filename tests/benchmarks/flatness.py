"""The memory of a driver and of a worker, by the number of samples: bound, within 5 % of that at the fewest.

    python -m tests.benchmarks.flatness [--samples 10000 50000 200000]

`stillroom extract` as a process of its own, with a local Ray and one worker: a Llama of one layer, 32 wide, texts of
some ten tokens with ids, units of 16,384 tokens, the final state in bfloat16. What is told is the most anonymous memory
(RssAnon: what the process itself has allocated, without files that it maps) of the driver and of the teacher's actor,
looked at every 50 ms. Ends with status 1 beyond the bound.
"""

import argparse
import json
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from random import Random

import psutil

from schemas.configs.yaml import dump_config
from tests.caches import extraction
from tests.pipeline.cluster.running import descendants, run_command
from tests.tiny import TEXTS, tiny_llama, tiny_tokenizer

BOUND = 0.05
LOOK_SECONDS = 0.05
WORDS = sorted({word for text in TEXTS if text.isascii() for word in text.split()})


@dataclass
class Peaks:
    """Of one extraction: bytes, and the seconds that it took."""

    driver: int = 0
    worker: int = 0
    seconds: float = 0.0


def write_texts(path: Path, samples: int) -> None:
    """The first of the longer corpus are the shorter one."""
    random = Random(0)
    with path.open("w", encoding="utf-8") as file:
        for number in range(samples):
            words = [random.choice(WORDS) for _ in range(random.randint(3, 9))]
            record = {"id": f"sample-{number}", "prompt": f"{words[0]} ", "text": " ".join(words[1:])}
            file.write(json.dumps(record) + "\n")


def measure(folder: Path, samples: int) -> Peaks:
    """Extract that many samples."""
    corpus, cache = folder / f"{samples}.jsonl", folder / f"cache-{samples}"
    write_texts(corpus, samples)
    states = {"hidden": ["last"], "mass": ["last"], "encoding": "exact", "dtype": "bfloat16"}
    sections = {"batching": {"unit_tokens": 16_384, "batch_tokens": 4096}, "workers": {"cpus": 0.5}}
    config = extraction(cache, folder / "teacher", corpus, states=states, spans={"annotator": "none"}, **sections)
    (folder / "extract.yaml").write_text(dump_config(config), encoding="utf-8")
    began, found = time.monotonic(), Peaks()
    command = run_command(["extract", str(folder / "extract.yaml")], folder)
    driver, worker = psutil.Process(command.pid), None
    while command.poll() is None:
        found.driver = max(found.driver, anonymous(driver))
        if worker is None or not worker.is_running():
            worker = next(iter(descendants(command.pid, "ray::TeacherActor")), None)
        if worker is not None:
            found.worker = max(found.worker, anonymous(worker))
        time.sleep(LOOK_SECONDS)
    said, _ = command.communicate()
    if command.returncode != 0:
        raise SystemExit(said)
    found.seconds = time.monotonic() - began
    return found


def anonymous(process: psutil.Process) -> int:
    """RssAnon of a process in bytes; 0 if it is gone."""
    try:
        lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon:")), 0)


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, nargs="+", default=[10_000, 50_000, 200_000])
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tiny_llama(folder / "teacher", tiny_tokenizer(folder / "teacher", "bpe"), hidden=32, layers=1, heads=2)
        print(f"{'samples':>9}{'driver MB':>11}{'':>8}{'worker MB':>11}{'':>8}{'seconds':>9}", flush=True)
        first: Peaks | None = None
        wrong = False
        for samples in asked.samples:
            found = measure(folder, samples)
            first = first or found
            growth = [getattr(found, part) / getattr(first, part) - 1 for part in ("driver", "worker")]
            wrong |= any(abs(each) > BOUND for each in growth)
            sizes = zip((found.driver, found.worker), growth, strict=True)
            row = "".join(f"{size / 1e6:>11.1f}{grown:>+8.1%}" for size, grown in sizes)
            print(f"{samples:>9,}{row}{found.seconds:>9.0f}", flush=True)
    return int(wrong)


if __name__ == "__main__":
    sys.exit(main())
