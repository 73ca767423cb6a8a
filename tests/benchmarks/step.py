"""A training step with KD, SRA or MTA against the cross-entropy step of the same student.

    python -m tests.benchmarks.step [--rounds 7] [--threads 2] [--cpu-time] [--same]

Student: Llama, 4 layers, 256 wide, vocabulary 8,192, batches of 16 x 256 tokens. Teacher: a random Llama, 6 layers,
288 wide. `same` shares the 8,192 tokens, where SRA costs most, because every token is a span; `cross` is a student with
a vocabulary of its own. `small` is an encoded cache of random codes, an eighth of bfloat16, none of whose components
are left out. Whole optimiser steps, reading included, in turn; the ratio is the median of rounds. The other columns are
the time of a step's parts. Cross-entropy makes its logits in chunks like the others.

Bounds: MTA 1.10; KD and SRA 1.15 from the raw cache, of which the teacher's product is 0.12, and 1.10 from a small one.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from schemas.cache.reader import Cache
from schemas.configs.training import TrainingConfig
from tests.caches import build_cache, extraction, write_corpus
from tests.encoded import invent_cache
from trainer.optimisation.loop import Loop
from trainer.optimisation.memory import keep_freed_memory
from trainer.runs.checkpoint import find_start
from trainer.runs.inputs import read_inputs
from trainer.runs.setup import set_up
from trainer.student.load import forward

VOCABULARY, TOKENS, BATCH = 8192, 256, 16
FINAL_STAGES, INNER_STAGES = 3.5 / 8, 1.25 / 8  # per component: a stage takes 8 bits
WARM_UP = 8
OBJECTIVES: dict[str, list[dict[str, Any]]] = {
    "ce": [{"loss": "ce"}],
    "ce+sra": [{"loss": "ce", "weight": 0.5}, {"loss": "sra", "weight": 0.5}],
    "ce+mta": [{"loss": "ce"}, {"loss": "mta"}],
    "ce+kd": [{"loss": "ce", "weight": 0.1}, {"loss": "kd", "weight": 0.9}],
}


def texts(count: int, seed: int, vocabulary: int = VOCABULARY) -> list[str]:
    """Sentences of pseudo-words with Zipf's frequencies, more of them than the vocabulary has tokens."""
    random = np.random.default_rng(seed)
    syllables = [a + b + c for a in "bdfgklmnprstvz" for b in "aeiou" for c in ("", "n", "r", "s")]
    spell = np.random.default_rng(0)
    words = ["".join(spell.choice(syllables, spell.integers(1, 4))) for _ in range(9000 * vocabulary // VOCABULARY)]
    odds = 1 / np.arange(2, len(words) + 2)
    return [" ".join(random.choice(words, 300, p=odds / odds.sum())) + "." for _ in range(count)]


def tokenizer(folder: Path, vocabulary: int, seed: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE trained on such sentences."""
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer, raw.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    raw.train_from_iterator(
        texts(400 * vocabulary // VOCABULARY, seed, vocabulary),
        trainers.BpeTrainer(
            vocab_size=vocabulary, initial_alphabet=alphabet, special_tokens=["</s>"], show_progress=False
        ),
    )
    fast = PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="</s>")
    fast.save_pretrained(folder)
    return fast


def make_cache(
    folder: Path,
    more_states: Mapping[str, Any] = {},
    keep_embeddings: bool = False,
    width: int = 288,
    vocabulary: int = VOCABULARY,
) -> Path:
    """What SRA and MTA read, of a teacher with random weights, and what else is asked for."""
    torch.manual_seed(0)
    size = {"hidden_size": width, "intermediate_size": 768, "num_hidden_layers": 6, "num_attention_heads": 6}
    LlamaForCausalLM(LlamaConfig(vocab_size=vocabulary, max_position_embeddings=512, **size)).save_pretrained(
        folder / "teacher"
    )
    tokenizer(folder / "teacher", vocabulary, seed=1)
    tokenizer(folder / "other", vocabulary, seed=2)
    corpus = write_corpus(folder / "corpus.jsonl", texts(96, 3, vocabulary))
    states = {"hidden": [3, 4, 6], "mass": [6], "dtype": "bfloat16", "encoding": "exact", **more_states}
    batching = {"unit_tokens": 8192, "batch_tokens": 4096}
    teacher: dict[str, Any] = {"model": str(folder / "teacher"), "max_tokens": TOKENS, "threads": 2}
    teacher["keep_embeddings"] = keep_embeddings
    return build_cache(
        extraction(folder / "cache", folder / "teacher", corpus, teacher=teacher, states=states, batching=batching)
    )


def make_loop(
    folder: Path,
    objective: list[dict[str, Any]],
    tokenizer_name: str,
    threads: int,
    keep_freed: bool = True,
    cache_name: str = "cache",
    vocabulary: int = VOCABULARY,
    batch: int = BATCH,
) -> Loop:
    """A run that is set up and about to take its first step, in a process that is as `stillroom train` has it."""
    torch.set_num_threads(threads)
    if keep_freed:
        keep_freed_memory()
    architecture = {"model_type": "llama", "hidden_size": 256, "intermediate_size": 688, "num_hidden_layers": 4}
    architecture |= {"num_attention_heads": 4, "vocab_size": vocabulary, "max_position_embeddings": 512}
    config = TrainingConfig.model_validate(
        {
            "cache": folder / cache_name,
            "output": folder / "runs",
            "student": {"architecture": architecture, "tokenizer": tokenizer_name, "max_tokens": TOKENS},
            "objective": objective,
            "batch_size": batch,
            "steps": 1000,
            "threads": threads,
        }
    )
    cache = Cache(config.caches[0])
    start = find_start(config.output, cache.manifest.fingerprint, "-")
    return set_up(config, {"corpus": cache}, start, 1000, read_inputs(config, cache.path)).loop


def time_steps(
    loops: dict[str, Loop], rounds: int, warm_up: int = WARM_UP, clock: Callable[[], float] = time.perf_counter
) -> dict[str, list[float]]:
    """Seconds of each loop's steps, taken in turn, after some that bring the memory in which is then kept."""
    seconds: dict[str, list[float]] = {name: [] for name in loops}
    for number in range(warm_up + rounds):
        for name, loop in loops.items():
            started = clock()
            loop.step(number)
            if number >= warm_up:
                seconds[name].append(clock() - started)
    return seconds


def time_parts(loop: Loop, rounds: int) -> dict[str, float]:
    """Median milliseconds of a step's parts: reading, student forward, objective, backward, update."""
    found: dict[str, list[float]] = {}

    def part(name: str, started: float) -> float:
        found.setdefault(name, []).append(1000 * (time.perf_counter() - started))
        return time.perf_counter()

    source = loop.sources["corpus"]
    for _ in range(rounds):
        now = time.perf_counter()
        batch = next(source.stream)
        now = part("read", now)
        states = forward(loop.model, batch, source.objective.of_student)
        now = part("forward", now)
        counts = {each: batch.count(each) for each in source.objective.divisors}
        total, _ = source.objective(states, batch, counts)
        now = part("objective", now)
        total.backward()
        now = part("backward", now)
        loop.optimizer.step()
        loop.optimizer.zero_grad(set_to_none=True)
        part("update", now)
    return {name: statistics.median(times) for name, times in found.items()}


def compare(folder: Path, label: str, tokenizer_name: str, arguments: argparse.Namespace) -> Table:
    """Steps of every objective from the raw cache and from an encoded one, in turn."""
    names = [objective for objective in OBJECTIVES if label == "same" or objective != "ce+kd"]
    sources = [(name, cache) for name in names for cache in ("cache", "encoded") if name != "ce" or cache == "cache"]
    loops = {
        f"{name}, {'raw' if cache == 'cache' else 'small'}": make_loop(
            folder, OBJECTIVES[name], tokenizer_name, arguments.threads, cache_name=cache
        )
        for name, cache in sources
    }
    usual = "ce, raw"
    clock = time.process_time if arguments.cpu_time else time.perf_counter
    seconds = time_steps(loops, arguments.rounds, clock=clock)
    parts = {objective: time_parts(loop, 3) for objective, loop in loops.items()}
    title = f"{label} tokenizer, {arguments.threads} threads"
    table = Table("objective, cache", "step / ce step", "ms per step", title=title)
    for heading in parts[usual]:
        table.add_column(f"{heading} ms", justify="right")
    for objective, times in seconds.items():
        ratio = statistics.median(a / b for a, b in zip(times, seconds[usual], strict=True))
        row = [f"{value:.0f}" for value in parts[objective].values()]
        table.add_row(objective, f"{ratio:.3f}", f"{1000 * statistics.median(times):.0f}", *row)
    return table


def main() -> None:
    """Print a table for each tokenizer."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--cpu-time", action="store_true", help="the process's own seconds")
    parser.add_argument("--same", action="store_true", help="one tokenizer alone")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        raw = make_cache(folder)
        invent_cache(raw, folder / "encoded", FINAL_STAGES, INNER_STAGES)
        for label, tokenizer_name in (("same", "teacher"), ("cross", str(folder / "other"))):
            if label == "same" or not arguments.same:
                Console(width=120).print(compare(folder, label, tokenizer_name, arguments))


if __name__ == "__main__":
    main()
