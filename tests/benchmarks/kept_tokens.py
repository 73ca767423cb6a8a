"""What reading samples costs with and without the student's tokens kept, over stories and Dolly.

    python -m tests.benchmarks.kept_tokens --material ../shared/material [--samples 1000] [--tokenizer qwen2]

Batches of 16 in the order of training, built in line, of two loads: tokens alone, as cross-entropy reads them, and what
`sra` reads, its spans and states included. The student has another tokenizer than the teacher, whose states come from a
small random model. `made anew` is every epoch without the files, `first` the epoch that makes and publishes them,
`second` the same run's next, and `other run` one that opens what it finds; its opening, which checks every byte, is
beside it. Microseconds per sample of this process, publishing included; a ratio is the median of rounds that take the
ways in turn.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from schemas.cache.reader import Cache
from schemas.configs.training import StudentConfig
from schemas.models.hashes import hash_tokenizer
from schemas.models.tokenizer import load_tokenizer
from tests.benchmarks.loading import LIMIT, corpora, make_cache
from trainer.alignment.student_text import StudentTokenizer, TextTokenizer
from trainer.data.loader import BatchBuilder
from trainer.data.request import BatchRequest
from trainer.data.sampler import BatchOrder
from trainer.data.teacher_states import TeacherHidden, TeacherMass
from trainer.data.tied_tokens import Spans
from trainer.kept_texts.folder import KeptFolder
from trainer.kept_texts.identity import identify
from trainer.kept_texts.kept_texts import KeptTexts

BATCH = 16
LOADS: dict[str, list[BatchRequest[Any]]] = {
    "tokens": [],
    "sra": [Spans("aligned", "response"), TeacherHidden(2), TeacherMass(2)],
}
WAYS = ("made anew", "first", "second", "other run", "opening")


def timed(work: Callable[[], object], samples: int) -> float:
    """Microseconds of this process per sample."""
    started = time.process_time()
    work()
    return (time.process_time() - started) / samples * 1e6


def read_epoch(cache: Cache, texts: TextTokenizer, requests: list[BatchRequest[Any]], epoch: int) -> None:
    """All batches of one epoch."""
    builder, each = BatchBuilder(cache, texts, requests), len(cache) // BATCH
    for positions in islice(BatchOrder(len(cache), BATCH, 0, epoch * each, cache.tokens), each):
        builder[positions]


def measure(
    cache: Cache, plain: TextTokenizer, open_folder: Callable[[int], KeptFolder], load: str, rounds: int
) -> dict[str, list[float]]:
    """Microseconds per sample of each way, in every round but the first, which brings the memory in."""
    found: dict[str, list[float]] = {way: [] for way in WAYS}
    for number in range(rounds + 1):
        kept = KeptTexts(plain, open_folder(number))

        def epoch(texts: TextTokenizer, number: int) -> Callable[[], None]:
            return lambda: read_epoch(cache, texts, LOADS[load], number)

        def first(kept: KeptTexts = kept) -> None:
            epoch(kept, 0)()
            kept.publish()

        took = [timed(epoch(plain, 0), len(cache)), timed(first, len(cache)), timed(epoch(kept, 1), len(cache))]
        opening = timed(lambda number=number: open_folder(number), len(cache))  # type: ignore[misc]
        other = KeptTexts(plain, open_folder(number))
        took += [timed(epoch(other, 0), len(cache)), opening]
        if number:
            for way, microseconds in zip(WAYS, took, strict=True):
                found[way].append(microseconds)
    return found


def main() -> None:
    """Print a table of each corpus."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--material", type=Path, required=True)
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--tokenizer", default="qwen2")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    files = arguments.material / "tokenizers" / arguments.tokenizer
    tokenizer, config = load_tokenizer(files), StudentConfig(model=str(files), max_tokens=LIMIT)
    plain, identity = StudentTokenizer(tokenizer, LIMIT, True), identify(config, tokenizer, hash_tokenizer(files), None)
    with tempfile.TemporaryDirectory() as temporary:
        for name, texts in corpora(arguments.material, arguments.samples).items():
            cache = Cache(make_cache(Path(temporary) / name, texts))
            tokens = sum(len(text.ids) for text in plain([cache.sample(place) for place in range(len(cache))]))
            table = Table("read", *WAYS, "ratio", title=f"{name}: microseconds per sample")
            for load in LOADS:
                place = Path(temporary) / f"{name}-{load}"

                def open_folder(number: int, place: Path = place) -> KeptFolder:
                    return KeptFolder(place / str(number), identity)

                found = measure(cache, plain, open_folder, load, arguments.rounds)
                ratio = statistics.median(a / b for a, b in zip(found["made anew"], found["other run"], strict=True))
                table.add_row(load, *(f"{statistics.median(found[way]):.0f}" for way in WAYS), f"{ratio:.1f}")
            size = sum(path.stat().st_size for path in (Path(temporary) / f"{name}-tokens" / "0").rglob("*.arrow"))
            Console(width=100).print(
                table, f"{size / tokens:.1f} bytes per token, {tokens / len(cache):.0f} per sample"
            )


if __name__ == "__main__":
    main()
