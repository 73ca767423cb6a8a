"""Extraction's tokens per second against a bare batched forward of the same teacher: the bound is 0.95.

    python -m tests.benchmarks.extraction [--rounds 3] [--teacher FOLDER --corpus FILE.jsonl --samples 200]
        [--encoding small]

Teacher: a 15M-parameter Llama (6 layers, 288 wide, vocabulary 32,000) with random weights, one thread, and texts of 20
to 400 tokens; or those named, where a record's text is all its texts. The bare forward has its tokens ready, in filled
batches of the same size sorted by length over the whole corpus, runs the body without the LM head, and keeps nothing.
glibc keeps freed memory for it, as it does in a worker, whose forward pass runs beside the main thread. Otherwise page
faults take a quarter of the loop's time, and extraction looks faster than it is. Extraction works in units of the
default size, each sorted in itself, tokenizes, marks spans, keeps three layers and the masses of one, checksums and
writes; its rate is from the first batch to the last. Each has a process of its own. They run in turn; the ratio is the
median over rounds.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from itertools import islice
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
import yaml
from rich.console import Console
from rich.table import Table
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

from pipeline.teacher.batching import BatchRule, batches
from tests.benchmarks.step import texts, tokenizer
from trainer.optimisation.memory import keep_freed_memory

BATCH_TOKENS, MAX_TOKENS = 4096, 512


def make_inputs(folder: Path) -> None:
    """A teacher and a corpus of texts of mixed length."""
    torch.manual_seed(0)
    size = {"hidden_size": 288, "intermediate_size": 768, "num_hidden_layers": 6, "num_attention_heads": 6}
    model = LlamaForCausalLM(
        LlamaConfig(vocab_size=32_000, max_position_embeddings=MAX_TOKENS, tie_word_embeddings=True, **size)
    )
    print(f"teacher of {sum(p.numel() for p in model.parameters()) / 1e6:.1f}M parameters")
    model.save_pretrained(folder / "teacher")
    tokenizer(folder / "teacher", 8192, seed=1)
    random = np.random.default_rng(4)
    lines = [" ".join(text.split()[: random.integers(15, 290)]) for text in texts(620, seed=5)]
    (folder / "corpus.jsonl").write_text("".join(json.dumps({"text": line}) + "\n" for line in lines))


def take_inputs(folder: Path, teacher: Path, corpus: Path, samples: int) -> None:
    """A teacher and texts that are there."""
    (folder / "teacher").symlink_to(teacher.absolute())
    with corpus.open(encoding="utf-8") as records, (folder / "corpus.jsonl").open("w", encoding="utf-8") as file:
        for record in islice(map(json.loads, records), samples):
            text = "\n".join(value for value in record.values() if isinstance(value, str))
            file.write(json.dumps({"text": text}) + "\n")


def bare_rate(folder: Path) -> float:
    """Tokens per second of the body alone."""
    torch.set_num_threads(1)
    keep_freed_memory()
    model = AutoModelForCausalLM.from_pretrained(folder / "teacher", dtype=torch.float32).eval().model
    lines = [json.loads(line)["text"] for line in (folder / "corpus.jsonl").open()]
    ids = AutoTokenizer.from_pretrained(folder / "teacher")(lines, truncation=True, max_length=MAX_TOKENS)["input_ids"]
    ready = []
    for rows in batches([len(row) for row in ids], BatchRule(BATCH_TOKENS)):
        longest = max(len(ids[row]) for row in rows)
        tokens = torch.tensor([ids[row] + [0] * (longest - len(ids[row])) for row in rows])
        mask = torch.tensor([[1] * len(ids[row]) + [0] * (longest - len(ids[row])) for row in rows])
        ready.append((tokens, mask))
    with torch.inference_mode():
        model(*ready[0])
        started = time.perf_counter()
        for tokens, mask in ready:
            model(input_ids=tokens, attention_mask=mask, use_cache=False)
    return sum(map(len, ids)) / (time.perf_counter() - started)


def extraction_rate(folder: Path, number: int, encoding: str) -> tuple[float, float]:
    """Tokens per second of an extraction in its own process: steady, and with Ray's start and the teacher's loading."""
    config = {
        "output": str(folder / f"cache-{number}"),
        "corpus": {"files": [str(folder / "corpus.jsonl")], "text": "text"},
        "teacher": {"model": str(folder / "teacher"), "max_tokens": MAX_TOKENS},
        "states": {"hidden": {"top": 3}, "mass": ["last"], "encoding": encoding},
        "batching": {"batch_tokens": BATCH_TOKENS},
    }
    (folder / "extract.yaml").write_text(yaml.safe_dump(config))
    script = (
        "import sys, json; from pathlib import Path; from pipeline.cluster.extract import extract; "
        "from schemas.configs.extraction import ExtractionConfig; from schemas.configs.yaml import load_config; "
        "r = extract(load_config(Path(sys.argv[1]), ExtractionConfig)); "
        "print(json.dumps([r.tokens_per_second, r.tokens / r.seconds]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(folder / "extract.yaml")], capture_output=True, text=True, check=True
    )
    steady, whole = json.loads(done.stdout.splitlines()[-1])
    return steady, whole


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--teacher", type=Path)
    parser.add_argument("--corpus", type=Path)
    parser.add_argument("--samples", type=int, default=200)
    parser.add_argument("--encoding", default="exact")
    asked = parser.parse_args()
    table = Table("round", "bare tokens/s", "extraction tokens/s", "ratio", "with start-up")
    ratios = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if asked.teacher:
            take_inputs(folder, asked.teacher, asked.corpus, asked.samples)
        else:
            make_inputs(folder)
        for number in range(asked.rounds):
            with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
                bare = process.submit(bare_rate, folder).result()
            steady, whole = extraction_rate(folder, number, asked.encoding)
            ratios.append(steady / bare)
            table.add_row(str(number + 1), f"{bare:,.0f}", f"{steady:,.0f}", f"{steady / bare:.2f}", f"{whole:,.0f}")
    table.add_row("median", "", "", f"{statistics.median(ratios):.2f}", "")
    Console().print(table)


if __name__ == "__main__":
    main()
