"""Steps at a vocabulary of 152,000 and 8,192 tokens: time beside cross-entropy's, and memory beside a body's alone.

    python -m tests.gpu wide

The student is of the shape of Qwen2.5-0.5B with random weights, in bfloat16 autocast; the teacher's states are given.
"""

import time
from collections.abc import Iterator
from pathlib import Path

import torch

from schemas.models.logits import LogitTransform
from schemas.models.teacher_head import TeacherHead
from tests.benchmarks.memory import CASES, WIDTH, loss_of, make_student

VOCABULARY, SAMPLES, TOKENS, LAYERS, ROUNDS = 151_936, 32, 256, 24, 7


def check_wide(folder: Path) -> Iterator[tuple[str, str]]:
    """Milliseconds of forward and backward, ÷ cross-entropy in chunks, and GiB at the peak, ÷ the body alone."""
    yield from measure("cuda", VOCABULARY, LAYERS, SAMPLES, ROUNDS)


def measure(device: str, vocabulary: int, layers: int, samples: int, rounds: int) -> Iterator[tuple[str, str]]:
    """The same on either device, where a CPU has no peak to tell."""
    torch.manual_seed(0)
    model = make_student(layers, vocabulary).to(device)
    head = TeacherHead(torch.randn(vocabulary, WIDTH), None, LogitTransform()).to(device)
    tokens_BS = torch.randint(0, vocabulary, (samples, TOKENS), device=device)
    teacher_BTd = torch.randn(*tokens_BS.shape, WIDTH, device=device)
    found: dict[str, tuple[float, float]] = {}
    for case in CASES:
        if device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        seconds = sorted(_step(case, model, tokens_BS, teacher_BTd, head) for _ in range(rounds))[rounds // 2]
        found[case] = seconds, torch.cuda.max_memory_allocated() / 2**30 if device == "cuda" else 0.0
    (_, body), (usual, _) = found["body"], found["ce"]
    for case, (seconds, peak) in found.items():
        ratio = f"{peak:.1f} GiB, {peak / body:.2f}" if body else "no peak"
        yield (
            f"{case}: forward and backward, ÷ ce; peak, ÷ body",
            f"{1000 * seconds:.0f} ms, {seconds / usual:.2f}; {ratio}",
        )


def _step(
    case: str, model: torch.nn.Module, tokens_BS: torch.Tensor, teacher_BTd: torch.Tensor, head: TeacherHead
) -> float:
    device = tokens_BS.device
    _wait(device)
    started = time.perf_counter()
    loss_of(case, model, tokens_BS, teacher_BTd, head).backward()
    _wait(device)
    model.zero_grad(set_to_none=True)
    return time.perf_counter() - started


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()
