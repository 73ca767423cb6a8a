"""What packed next-token distributions take and lose, on a real model's logits.

`python -m tests.benchmarks.distributions TEXTS MODEL...`: JSONL with the fields prompt and output, of which the first
tokens are read, and folders of causal models.

Bounds: 64 likeliest in 230 bytes per token, 50 draws in 60, for a vocabulary of 49,152 or more.
"""

import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

from pipeline.teacher.kinds.sampled import draw, uniforms
from pipeline.teacher.kinds.top_k import top_k
from schemas.cache.kinds import sampled
from schemas.cache.kinds import top_k as likeliest
from schemas.cache.kinds.next_token import NextToken, SparseRecord
from schemas.cache.ragged import RaggedRows
from schemas.cache.teacher import TeacherRecord

TOKENS = 4096
K, DRAWS = 64, 50
MOST = {"top_k": 230, "sampled": 60}  # bytes per token


def logits_of(folder: Path, texts: Path) -> Iterator[Tensor]:
    """[T, V] of one example after the other, until TOKENS have been seen."""
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    seen = 0
    for line in texts.read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        ids = tokenizer(record["prompt"] + record["output"], return_tensors="pt").input_ids[
            :, : min(512, TOKENS - seen)
        ]
        with torch.inference_mode():
            yield model(input_ids=ids).logits[0].float()
        seen += ids.shape[1]
        if seen >= TOKENS:
            return


def plain(folder: Path, texts: Path) -> tuple[int, dict[str, tuple[np.ndarray, np.ndarray]]]:
    """The vocabulary, and ids and values of every token, as a teacher makes them."""
    parts: dict[str, list[tuple[Tensor, Tensor]]] = {"top_k": [], "sampled": [], "weighted": []}
    for number, logits in enumerate(logits_of(folder, texts)):
        logp, vocabulary = logits.log_softmax(-1), logits.shape[1]
        uniform = torch.from_numpy(uniforms(str(number), len(logp), DRAWS, 0))
        parts["top_k"].append(top_k(logp, K))
        parts["sampled"].append(draw(logp, uniform, 1.0))
        parts["weighted"].append(draw(logp, uniform, 0.8))
    whole = {name: [torch.cat(tensors) for tensors in zip(*some, strict=True)] for name, some in parts.items()}
    return vocabulary, {name: (ids.int().numpy(), values.numpy()) for name, (ids, values) in whole.items()}


def microseconds(call: Callable[[], object], rows: int) -> float:
    """Per row, the least of five."""
    times = []
    for _ in range(5):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times) / rows * 1e6


def measure(name: str, vocabulary: int, ids: np.ndarray, values: np.ndarray) -> None:
    kind: NextToken[Any] = likeliest.KIND if name == "top_k" else sampled.KIND
    proposal = {"top_k": None, "sampled": 1.0, "weighted": 0.8}[name]
    record = SparseRecord(temperature=1.0, entries=ids.shape[1], proposal=proposal)
    teacher = TeacherRecord(model="", kind="causal", num_layers=1, hidden_size=1, vocab_size=vocabulary, max_tokens=2)
    packed = kind.pack(ids, values, record, teacher)
    size = sum(p.data.nbytes + p.sizes.nbytes if isinstance(p, RaggedRows) else p.nbytes for p in packed) / len(ids)
    _, found = kind.unpack(packed, record, teacher)
    packs = microseconds(lambda: kind.pack(ids, values, record, teacher), len(ids))
    unpacks = microseconds(lambda: kind.unpack(packed, record, teacher), len(ids))
    print(
        f"{name:9} {size:6.1f} bytes per token, was {ids.nbytes / len(ids) + values.nbytes / len(ids):.0f}; "
        f"packs in {packs:.2f} us per token, unpacks in {unpacks:.2f}"
    )
    if name == "top_k":
        order = np.argsort(ids, axis=1)
        true = np.concatenate([np.take_along_axis(values, order, 1), values[:, -1:]], 1).astype(np.float64)
        kl = (np.exp(true) * (true - found)).sum(1)
        print(
            f"          KL of what packing loses: mean {kl.mean():.1e}, 99th percentile {np.quantile(kl, 0.99):.1e}, "
            f"worst {kl.max():.1e} nats"
        )
    else:
        print(f"          distinct ids per token: {(found > 0).sum(1).mean():.1f}")
    if vocabulary >= 49_152 and name in MOST and size > MOST[name]:
        raise SystemExit(f"{name} takes {size:.1f} bytes per token, more than {MOST[name]}")


def main() -> None:
    torch.set_num_threads(1)
    for folder in sys.argv[2:]:
        vocabulary, made = plain(Path(folder), Path(sys.argv[1]))
        print(f"{Path(folder).name}: {len(made['top_k'][0])} tokens, vocabulary {vocabulary:,}")
        for name, (ids, values) in made.items():
            measure(name, vocabulary, ids, values)


if __name__ == "__main__":
    main()
