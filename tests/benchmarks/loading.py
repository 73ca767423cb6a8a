"""Tokens per second in batches of similar length against random padded ones, and how long a step waits for its batch.

    python -m tests.benchmarks.loading --material ../shared/material [--rounds 3] [--steps 8] [--cpu]

A small random teacher, run once over stories and over Dolly's questions and answers, teaches a Llama of 4 layers, 256
wide, with `ce` and `sra` in batches of 16; its tokenizer is one of 4,096 tokens, trained on these texts. Whole steps
in turn, all in one process; a ratio is the median of rounds of other batches. `read` is the share of a step that
its loop waits for batches, read in line or, by default, ahead by one thread. With `--cpu`, tokens are per second that
this process computed, for a machine that others use, too.
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from schemas.cache.reader import Cache
from schemas.configs.training import TrainingConfig
from tests.caches import build_cache, extraction
from trainer.data.batch import Batch
from trainer.optimisation.loop import Loop
from trainer.optimisation.memory import keep_freed_memory
from trainer.runs.checkpoint import find_start
from trainer.runs.inputs import read_inputs
from trainer.runs.setup import set_up

VOCABULARY, MOST = 4096, 1000
LIMIT = 1024  # tokens of a text
WAYS: dict[str, dict[str, Any]] = {
    "random, padded": {"order": "random", "packing": "never", "loader_workers": 0},
    "by length, padded": {"order": "length", "packing": "never", "loader_workers": 0},
    "by length, packed": {"order": "length", "packing": "always", "loader_workers": 0},
    "as by default": {},
}
Clock = Callable[[], float]


class Waited(Iterator[Batch]):
    """A stream of batches that counts what is waited for them, and their tokens."""

    def __init__(self, stream: Iterator[Batch]):
        self.stream, self.seconds, self.tokens = stream, 0.0, 0

    def __next__(self) -> Batch:
        started = time.perf_counter()
        batch = next(self.stream)
        self.seconds += time.perf_counter() - started
        self.tokens += int(batch.mask_BS.sum())
        return batch


def corpora(material: Path, most: int) -> dict[str, list[tuple[str, str]]]:
    """Prompts and responses."""
    stories = (material / "text/stories/stories_A.jsonl").read_text(encoding="utf-8").splitlines()
    dolly = (material / "text/instruct/dolly_dev.jsonl").read_text(encoding="utf-8").splitlines()
    asked = [json.loads(line) for line in dolly[:most]]
    return {
        "stories": [("", json.loads(line)["text"]) for line in stories[:most]],
        "dolly": [(f"{record['instruction']}\n", record["output"]) for record in asked],
    }


def make_teacher(folder: Path, texts: list[tuple[str, str]]) -> None:
    """A byte-level BPE of these texts, and a model that has learnt nothing."""
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer, raw.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    raw.train_from_iterator([prompt + text for prompt, text in texts], trainer)
    PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="</s>").save_pretrained(folder)
    torch.manual_seed(0)
    size = {"hidden_size": 64, "intermediate_size": 172, "num_hidden_layers": 2, "num_attention_heads": 2}
    LlamaForCausalLM(LlamaConfig(vocab_size=VOCABULARY, max_position_embeddings=LIMIT, **size)).save_pretrained(folder)


def make_cache(folder: Path, texts: list[tuple[str, str]]) -> Path:
    """What a teacher makes of these."""
    make_teacher(folder / "teacher", texts)
    records = [{"id": f"s{number}", "prompt": prompt, "text": text} for number, (prompt, text) in enumerate(texts)]
    (folder / "corpus.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    states = {"hidden": [1, 2], "mass": [2], "dtype": "bfloat16", "encoding": "exact"}
    sections: dict[str, Any] = {"teacher": {"max_tokens": LIMIT}, "states": states}
    sections["batching"] = {"unit_tokens": 32_768, "batch_tokens": 8192}
    return build_cache(extraction(folder / "cache", folder / "teacher", folder / "corpus.jsonl", **sections))


def make_loop(cache: Path, changes: dict[str, Any]) -> tuple[Loop, Waited]:
    """A run that is about to take its first step, and its stream."""
    size = {"hidden_size": 256, "intermediate_size": 688, "num_hidden_layers": 4, "num_attention_heads": 4}
    architecture = {"model_type": "llama", "max_position_embeddings": LIMIT, **size}
    student = {"architecture": architecture, "tokenizer": "teacher", "max_tokens": LIMIT}
    base: dict[str, Any] = {"cache": cache, "output": cache.parent / "run", "student": student, "steps": 1000}
    base |= {"objective": [{"loss": "ce"}, {"loss": "sra"}], "batch_size": 16, "device": "cpu"}
    config = TrainingConfig.model_validate(base | changes)
    opened = Cache(cache)
    start = find_start(config.output, opened.manifest.fingerprint, "-")
    loop = set_up(config, {"corpus": opened}, start, 1000, read_inputs(config, cache)).loop
    stream = Waited(loop.sources["corpus"].stream)
    loop.sources = {"corpus": replace(loop.sources["corpus"], stream=stream)}
    return loop, stream


def measure(cache: Path, rounds: int, steps: int, clock: Clock) -> dict[str, tuple[float, float, float]]:
    """Of each way, tokens per second, its ratio to the first way's, and the share of a step that is waiting."""
    loops = {name: make_loop(cache, changes) for name, changes in WAYS.items()}
    speeds: dict[str, list[float]] = {name: [] for name in loops}
    shares: dict[str, list[float]] = {name: [] for name in loops}
    for number in range(1 + rounds):
        for name, (loop, stream) in loops.items():
            stream.seconds, stream.tokens = 0.0, 0
            started, began = time.perf_counter(), clock()
            for step in range(steps):
                loop.step(number * steps + step)
            if number:  # the first brings the memory in
                speeds[name].append(stream.tokens / (clock() - began))
                shares[name].append(stream.seconds / (time.perf_counter() - started))
    first = speeds[next(iter(WAYS))]
    ratios = {name: statistics.median(a / b for a, b in zip(speeds[name], first, strict=True)) for name in WAYS}
    return {name: (statistics.median(speeds[name]), ratios[name], statistics.median(shares[name])) for name in WAYS}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--material", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--samples", type=int, default=MOST)
    parser.add_argument("--cpu", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    keep_freed_memory()
    console = Console(width=100)
    clock = time.process_time if arguments.cpu else time.perf_counter
    with tempfile.TemporaryDirectory() as temporary:
        for name, texts in corpora(arguments.material, arguments.samples).items():
            cache = make_cache(Path(temporary) / name, texts)
            table = Table("batches", "tokens per second", "ratio", "read", title=name)
            for way, (speed, ratio, share) in measure(cache, arguments.rounds, arguments.steps, clock).items():
                table.add_row(way, f"{speed:,.0f}", f"{ratio:.2f}", f"{share:.1%}")
            console.print(table)


if __name__ == "__main__":
    main()
