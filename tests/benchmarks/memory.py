"""The peak memory of a training step's forward and backward pass at a vocabulary of 152,000.

    python -m tests.benchmarks.memory [--layers 24] [--tokens 1024] [--vocabulary 151936]

Student: Qwen2 of the size of Qwen2.5-0.5B, 896 wide, head and embeddings tied; the teacher's states are 896 wide too.
Every case runs in a process of its own, with one thread, and reports its resident set: when all is loaded, the
teacher's head among it, and at its peak. `body` is the student's forward and backward pass without any logits; `whole
ce` makes all of them. Bound: kd and sra <= 1.2 * body, plus the budget of the chunks.

What is beyond `body` is the head's gradient: with tied embeddings autograd adds it to that of the embeddings out of
place, so [V, d] exists three times for a moment. No logits are in it.
"""

import argparse
import resource
import subprocess
import sys
import time
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor
from transformers import Qwen2Config, Qwen2ForCausalLM

from schemas.models.logits import LogitTransform
from schemas.models.teacher_head import TeacherHead
from trainer.objectives.ce import cross_entropy, next_tokens
from trainer.objectives.kd import token_kd_loss
from trainer.objectives.kernels.carried import CarriedCrossEntropy
from trainer.objectives.kernels.chunks import ON_CPU
from trainer.objectives.kernels.pooled_rows import Columns
from trainer.objectives.sra import span_kd_loss
from trainer.student.device import rounded_products
from trainer.student.final_states import body_of, logits_of
from trainer.student.logits import Logits

CASES = ("body", "whole ce", "ce", "ce+kd", "ce+sra")
WIDTH, SPAN, SAMPLE = 896, 2, 256
# Of `ce+kd`: logits, over which their gradient is written, and the teacher's of one product; blocks are far smaller.
MATRICES = 2


def make_student(layers: int, vocabulary: int) -> Any:
    """As Qwen2.5-0.5B is, with fewer layers."""
    heads = {"num_attention_heads": 14, "num_key_value_heads": 2, "tie_word_embeddings": True}
    size = {"hidden_size": WIDTH, "intermediate_size": 4864, "num_hidden_layers": layers, "vocab_size": vocabulary}
    return Qwen2ForCausalLM(Qwen2Config(**size, **heads)).train()


def loss_of(case: str, model: Any, tokens_BS: Tensor, teacher_BTd: Tensor, head: TeacherHead) -> Tensor:
    """The scalar to send backward, as a training step makes it: the student under autocast on a GPU, losses not."""
    device = tokens_BS.device
    with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
        if case == "whole ce":
            logits_XV = model(input_ids=tokens_BS, use_cache=False).logits[:, :-1].flatten(0, 1)
            return torch.nn.functional.cross_entropy(logits_XV.float(), tokens_BS[:, 1:].flatten())
        hidden_BSd = body_of(model)(input_ids=tokens_BS, use_cache=False).last_hidden_state
        logits = logits_of(model, hidden_BSd)
    if case == "body":
        total: Tensor = hidden_BSd.float().square().mean()
        return total
    with rounded_products(device, rounded=True):
        return _distilled(case, logits, tokens_BS, teacher_BTd, head)


def _distilled(case: str, logits: Logits, tokens_BS: Tensor, teacher_BTd: Tensor, head: TeacherHead) -> Tensor:
    target_BS = torch.ones_like(tokens_BS, dtype=torch.bool)
    target_BS[:, 0] = False
    if case == "ce":
        return cross_entropy(logits, tokens_BS, target_BS) / tokens_BS.numel()
    carried = CarriedCrossEntropy(*next_tokens(tokens_BS, target_BS), 1.0, 1.0, logits)
    places_BS = torch.arange(tokens_BS.shape[1], device=tokens_BS.device).expand_as(tokens_BS)
    if case == "ce+kd":
        loss = token_kd_loss(logits, teacher_BTd, places_BS, following(target_BS), head, 1.0, carried)
    else:
        label_BS, spans = places_BS // SPAN, tokens_BS.shape[1] // SPAN
        share_BS = torch.full(tokens_BS.shape, 1 / SPAN, device=tokens_BS.device)
        mask_BK = torch.ones(len(tokens_BS), spans, dtype=torch.bool, device=tokens_BS.device)
        columns, centres_BKd = Columns(logits.shape[-1]), teacher_BTd[:, ::SPAN]
        loss = span_kd_loss(logits, label_BS, share_BS, centres_BKd, mask_BK, head, columns, 2.0, carried=carried)
    return loss + carried.total


def following(target_BS: Tensor) -> Tensor:
    """Whether the next token is a target."""
    return target_BS.roll(-1, dims=1)


def measure(case: str, layers: int, tokens: int, vocabulary: int) -> None:
    """Print megabytes when all is loaded and at the peak, and seconds of the two passes."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model, head = make_student(layers, vocabulary), TeacherHead(torch.randn(vocabulary, WIDTH), None, LogitTransform())
    tokens_BS = torch.randint(0, vocabulary, (tokens // SAMPLE, SAMPLE))
    teacher_BTd = torch.randn(*tokens_BS.shape, WIDTH)
    loaded, started = _peak(), time.perf_counter()
    loss_of(case, model, tokens_BS, teacher_BTd, head).backward()
    print(loaded, _peak(), time.perf_counter() - started)


def _peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Print a table of every case."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=24)
    parser.add_argument("--tokens", type=int, default=1024)
    parser.add_argument("--vocabulary", type=int, default=151_936)
    parser.add_argument("--case", choices=CASES, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    sizes = (arguments.layers, arguments.tokens, arguments.vocabulary)
    if arguments.case:
        measure(arguments.case, *sizes)
        return
    found = {}
    for case in CASES:
        command = [sys.executable, "-m", "tests.benchmarks.memory", "--case", case]
        options = [f"--{name}={size}" for name, size in zip(("layers", "tokens", "vocabulary"), sizes, strict=True)]
        said = subprocess.run([*command, *options], check=True, capture_output=True, text=True).stdout
        found[case] = [float(number) for number in said.split()]
    budget = MATRICES * 4 * ON_CPU.product / 2**20
    table = Table(
        "case", "loaded MB", "peak MB", "peak / body", "beyond the budget", "s", title=f"budget {budget:.0f} MB"
    )
    body = found["body"][1]
    for case, (loaded, peak, seconds) in found.items():
        row = [f"{loaded:.0f}", f"{peak:.0f}", f"{peak / body:.2f}", f"{(peak - budget) / body:.2f}", f"{seconds:.1f}"]
        table.add_row(case, *row)
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
