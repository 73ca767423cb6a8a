"""Memory that runs out on a real GPU: the cache is whole, says what was halved, and agrees with an undisturbed one.

    python -m tests.gpu.oom [--fraction F]

Extracts twice in this process: with all of the GPU's memory, and with so little of it that the first batches do not fit
but one sample does. Prints one line of JSON; exits 1 if nothing was halved, if `verify` finds fault with a shard, or if
states differ by more than rounding (1e-4 of the largest, in float32).
"""

import argparse
import gc
import json
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from schemas.cache.reader import Cache
from schemas.cache.verify import verify_shard
from tests.caches import extract_here, extraction, write_corpus
from tests.tiny import TEXTS, tiny_tokenizer

BATCH_TOKENS, MAX_TOKENS, HIDDEN, INTERMEDIATE = 32_768, 512, 1024, 16_384
TOLERANCE = 1e-4


@dataclass(frozen=True)
class Made:
    """A cache, and how it went."""

    cache: Path
    halved: int
    peak_bytes: int


def make_inputs(folder: Path) -> None:
    """A teacher whose activations are large beside its weights, and texts of about 300 tokens."""
    torch.manual_seed(0)
    tokenizer = tiny_tokenizer(folder / "model", "bpe")
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=HIDDEN,
        intermediate_size=INTERMEDIATE,
        num_hidden_layers=2,
        num_attention_heads=8,
        max_position_embeddings=MAX_TOKENS,
    )
    LlamaForCausalLM(config).eval().save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    texts = [" ".join(TEXTS[(i + j) % len(TEXTS)] for j in range(10)) + f" {i}" for i in range(400)]
    write_corpus(folder / "corpus.jsonl", texts)


def make_cache(folder: Path, name: str, fraction: float) -> Made:
    """Extract on the GPU, of whose memory `fraction` may be used."""
    gc.collect()  # the teacher of before
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(fraction)
    config = extraction(
        folder / name,
        folder / "model",
        folder / "corpus.jsonl",
        teacher={"max_tokens": MAX_TOKENS, "device": "cuda"},
        states={"hidden": [1, "last"], "mass": ["last"]},
        batching={"unit_tokens": 4 * BATCH_TOKENS, "batch_tokens": BATCH_TOKENS},
        workers={"gpus": 1},
    )
    cache, reports = extract_here(config, lambda worker: torch.cuda.reset_peak_memory_stats())
    return Made(cache, sum(report.halved for report in reports), torch.cuda.max_memory_allocated())


def worst_difference(one: Path, other: Path) -> float:
    """The largest difference of any state, in parts of the largest state of its sample and array."""
    caches, worst = (Cache(one), Cache(other)), 0.0
    for position in range(len(caches[0])):
        rows = [cache.states(position, cache.manifest.arrays) for cache in caches]
        for left, right in zip(*rows, strict=True):
            worst = max(worst, float(np.abs(np.asarray(left) - np.asarray(right)).max() / np.abs(left).max()))
    return worst


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fraction", type=float, help="left out: half of what the undisturbed run took at most")
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("there is no GPU here")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_inputs(folder)
        plain = make_cache(folder, "plain", 1.0)
        total = torch.cuda.get_device_properties(0).total_memory
        fraction = arguments.fraction or plain.peak_bytes / 2 / total
        small = make_cache(folder, "small", fraction)
        manifest = Cache(small.cache).manifest
        for unit in range(manifest.units):
            verify_shard(small.cache, unit, manifest, None)
        worst = worst_difference(plain.cache, small.cache)
    found = {
        "device": torch.cuda.get_device_name(0),
        "fraction": round(fraction, 5),
        "peak_bytes": [plain.peak_bytes, small.peak_bytes],
        "halved": [plain.halved, small.halved],
        "units": manifest.units,
        "worst_difference": worst,
    }
    print(json.dumps(found))
    return 0 if plain.halved == 0 < small.halved and worst <= TOLERANCE else 1


if __name__ == "__main__":
    sys.exit(main())
