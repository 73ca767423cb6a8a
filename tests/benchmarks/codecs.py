"""Codecs of hidden states on a real model: bytes, what they lose on fresh texts, and what making and reading costs.

    python -m tests.benchmarks.codecs MODEL TEXTS.jsonl --layers 6 12 18 [--fields prompt output] [--kind encoder]

The teacher runs over the texts in order: the first 27,000 tokens are learnt from, the next 13,000 choose the rate, and
what is in the table is measured on further 12,000, which nothing was chosen by (as long as the texts reach). Beside the
calibrated codec stand fp8, int8, and what others use: a random rotation with Lloyd-Max levels of a Gaussian. One
thread. The final layer of a causal model is judged by KL(teacher || decoded) over its whole vocabulary, others by how
far centred cosines between spans are off, as a share of their spread.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from pipeline.encoding.calibrate import Goal, calibrate_final, calibrate_inner
from pipeline.encoding.head import Head
from pipeline.encoding.measure import centred_cosine, geometry_error, kl_divergence
from pipeline.encoding.row_scaled import encode_fp8, encode_int8
from schemas.cache.encoding import PRESETS
from schemas.models.decoders.fp8 import Float8Decoder
from schemas.models.decoders.int8 import Int8Decoder
from schemas.models.logits import LogitTransform, find_head

LEARNT, HELD_OUT, FRESH = 27_000, 13_000, 12_000  # tokens
PREDICTED = 600  # rows whose predictions are compared
MAX_TOKENS = 256

Coded = tuple[float, Callable[[], Tensor]]  # bytes per row, and what decodes all rows
Calibrated = Callable[[Tensor], Coded]


def main() -> None:
    arguments = _arguments()
    torch.set_num_threads(1)
    states, head = _states(arguments)
    table = Table("layer", "codec", "bits", "bytes/token", "KL mean", "p99", "worst", "geometry", "cosine")
    for column in ("calibrate s", "encode us", "decode us"):
        table.add_column(column, justify="right")
    for layer, rows_Nd in states.items():
        final = head if layer == max(states) and arguments.kind == "causal" else None
        for row in _layer(layer, rows_Nd, final):
            table.add_row(*row)
            print("  ".join(row), flush=True)
        table.add_section()
    Console(width=150).print(table)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("texts", type=Path)
    parser.add_argument("--layers", type=int, nargs="+", required=True, help="the last is judged by its predictions")
    parser.add_argument("--fields", nargs="+", default=["prompt", "output"])
    parser.add_argument("--kind", choices=["causal", "encoder"], default="causal")
    return parser.parse_args()


@torch.inference_mode()
def _states(arguments: argparse.Namespace) -> tuple[dict[int, Tensor], Head | None]:
    """Rows of each layer in bfloat16, text after text, and the head of a causal model."""
    from transformers import AutoModel, AutoModelForCausalLM, AutoTokenizer

    auto: Any = AutoModelForCausalLM if arguments.kind == "causal" else AutoModel
    model = auto.from_pretrained(arguments.model, dtype=torch.float32).eval()
    body, tokenizer = getattr(model, "model", model), AutoTokenizer.from_pretrained(arguments.model)
    found: dict[int, list[Tensor]] = {layer: [] for layer in arguments.layers}
    for text in _texts(arguments):
        ids = tokenizer(text, truncation=True, max_length=MAX_TOKENS, return_tensors="pt")["input_ids"]
        hidden = body(input_ids=ids, output_hidden_states=True).hidden_states
        for layer, rows in found.items():
            rows.append(hidden[layer][0].bfloat16())
        if sum(map(len, found[arguments.layers[0]])) >= LEARNT + HELD_OUT + FRESH:
            break
    states = {layer: torch.cat(rows) for layer, rows in found.items()}
    if arguments.kind == "encoder":
        return states, None
    weight_Vd, bias_V = find_head(model)
    return states, Head(weight_Vd.clone(), bias_V, LogitTransform.of(model.config.get_text_config()))


def _texts(arguments: argparse.Namespace) -> Iterator[str]:
    for line in arguments.texts.read_text(encoding="utf-8").splitlines():
        record = json.loads(line)
        yield "".join(record[field] for field in arguments.fields)


def _layer(layer: int, rows_Nd: Tensor, head: Head | None) -> Iterator[list[str]]:
    """A row of the table for each codec."""
    learnt, held_out, fresh = _cut(rows_Nd)
    for name, calibrate in _codecs(head).items():
        started = time.perf_counter()
        encode = calibrate(learnt.float(), held_out.float())
        calibrated = time.perf_counter()
        bytes_per_row, decode = encode(fresh)
        encoded = time.perf_counter()
        decoded_Nd = decode()
        took = [calibrated - started, encoded - calibrated, time.perf_counter() - encoded]
        per_row = [1e6 * seconds / len(fresh) for seconds in took[1:]]
        bits = 8 * bytes_per_row / fresh.shape[1]
        times = [f"{took[0]:.0f}", *(f"{microseconds:.0f}" for microseconds in per_row)]
        yield [str(layer), name, f"{bits:.2f}", f"{bytes_per_row:.0f}", *_judge(fresh, decoded_Nd, head), *times]


def _cut(rows_Nd: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Learnt from, chosen by, measured on: of fewer tokens than wanted, in the same proportions."""
    parts = np.array([LEARNT, HELD_OUT, FRESH])
    ends = np.minimum(parts, parts * len(rows_Nd) // parts.sum()).cumsum().tolist()
    return rows_Nd[: ends[0]], rows_Nd[ends[0] : ends[1]], rows_Nd[ends[1] : ends[2]]


def _judge(true_Nd: Tensor, decoded_Nd: Tensor, head: Head | None) -> list[str]:
    mean_d = true_Nd.float().mean(0)
    found = geometry_error(true_Nd[:3072], decoded_Nd[:3072], mean_d)
    geometry = "" if found is None else f"{100 * found:.1f} %"
    inner = [geometry, f"{float(centred_cosine(true_Nd, decoded_Nd, mean_d).mean()):.4f}"]
    if head is None:
        return ["", "", "", *inner]
    some = torch.arange(len(true_Nd))[:: max(1, len(true_Nd) // PREDICTED)]
    kl = kl_divergence(true_Nd[some], decoded_Nd[some], head)
    return [f"{kl.mean():.4f}", f"{kl.quantile(0.99):.3f}", f"{kl.max():.2f}", *inner]


def _codecs(head: Head | None) -> dict[str, Callable[[Tensor, Tensor], Calibrated]]:
    found: dict[str, Callable[[Tensor, Tensor], Calibrated]] = {
        "raw": lambda learnt, held_out: lambda rows: (2.0 * rows.shape[1], rows.float),
        "fp8": lambda learnt, held_out: lambda rows: _row_scaled(encode_fp8(rows), Float8Decoder),
        "int8": lambda learnt, held_out: lambda rows: _row_scaled(encode_int8(rows), Int8Decoder),
    }
    for bits in (8, 6, 5, 4, 3, 2, 1):
        found[f"rotation {bits}"] = partial(_rotation, bits)
    for name, config in PRESETS.items():
        if config is not None:
            tolerance = config.geometry if head is None else config.kl
            bound = config.record.worst_kl if head is not None and config.record.worst_kl else float("inf")
            found[f"rvq {name}"] = partial(_rvq, head, Goal(tolerance, bound=bound))
    return found


def _row_scaled(encoded_Nx: Tensor, decoder: Any) -> Coded:
    sizes = torch.full((len(encoded_Nx),), encoded_Nx.shape[1])
    return float(encoded_Nx.shape[1]), lambda: decoder(decoder.values(), encoded_Nx.shape[1] - 4).states(
        encoded_Nx.flatten(), sizes
    )


def _rvq(head: Head | None, goal: Goal, learnt: Tensor, held_out: Tensor) -> Calibrated:
    encoder = calibrate_inner(learnt, held_out, goal) if head is None else calibrate_final(learnt, held_out, head, goal)

    def code(rows: Tensor) -> Coded:
        encoded = [encoder.encode(some) for some in rows.split(4096)]
        size = sum(len(part.data) + 2 * len(part.size_N) for part in encoded) / len(rows)  # 2 for the size itself
        return size, lambda: torch.cat([encoder.tables.states(part.data, part.size_N) for part in encoded])

    return code


def _rotation(bits: int, learnt: Tensor, held_out: Tensor) -> Calibrated:
    """A random rotation, the row's root mean square as float16, and the levels that are best for a Gaussian."""
    width = learnt.shape[1]
    basis = torch.linalg.qr(torch.randn(width, width, generator=torch.Generator().manual_seed(0)))[0]
    levels = _lloyd_max(bits)

    def code(rows: Tensor) -> Coded:
        turned = rows.float() @ basis
        scale = turned.square().mean(1, keepdim=True).sqrt().half().float()
        codes = torch.bucketize(turned / scale, (levels[1:] + levels[:-1]) / 2)
        return bits * width / 8 + 2, lambda: torch.mm(levels[codes] * scale, basis.T)

    return code


def _lloyd_max(bits: int) -> Tensor:
    """[2^bits] levels for a Gaussian, by Lloyd's algorithm on a fine grid of its quantiles."""
    grid = torch.special.ndtri((torch.arange(200_000, dtype=torch.float64) + 0.5) / 200_000)
    levels = grid[torch.linspace(0, len(grid) - 1, 2**bits + 2).long()[1:-1]].contiguous()
    for _ in range(300):
        owner = torch.bucketize(grid, (levels[1:] + levels[:-1]) / 2)
        counts = torch.bincount(owner, minlength=len(levels)).clamp_min(1)
        levels = torch.zeros_like(levels).index_add_(0, owner, grid) / counts
    found: Tensor = levels.float()
    return found


if __name__ == "__main__":
    main()
