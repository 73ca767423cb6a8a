"""Steps at a vocabulary of 152,000 and 8,192 tokens: time beside cross-entropy's, and memory beside a body's alone.

    python -m tests.gpu wide

The student is of the shape of Qwen2.5-0.5B with random weights, in bfloat16 autocast; the teacher's states are given.
Cases take turns, because the machine's own speed changes: it starts some three thousand kernels a step.
"""

import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import torch

from schemas.models.logits import LogitTransform
from schemas.models.teacher_head import TeacherHead
from tests.benchmarks.memory import CASES, WIDTH, loss_of, make_student
from tests.gpu.steps import wait

VOCABULARY, SAMPLES, TOKENS, LAYERS, ROUNDS = 151_936, 32, 256, 24, 9


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
    seconds: dict[str, list[float]] = {case: [] for case in CASES}
    peaks = dict.fromkeys(CASES, 0.0)
    for _ in range(rounds + 1):
        for case in CASES:
            if device == "cuda":
                torch.cuda.reset_peak_memory_stats()
            seconds[case].append(_step(case, model, tokens_BS, teacher_BTd, head))
            peaks[case] = torch.cuda.max_memory_allocated() / 2**30 if device == "cuda" else 0.0
    timed = {case: each[1:] for case, each in seconds.items()}  # the first compiles, and brings the memory in
    for case in CASES:
        ratio = median(one / usual for one, usual in zip(timed[case], timed["ce"], strict=True))
        peak = f"{peaks[case]:.1f} GiB, {peaks[case] / peaks['body']:.2f}" if peaks["body"] else "no peak"
        figure = f"{1000 * median(timed[case]):.0f} ms, {ratio:.2f}; {peak}"
        yield f"{case}: forward and backward, ÷ ce; peak, ÷ body", figure


def _step(
    case: str, model: torch.nn.Module, tokens_BS: torch.Tensor, teacher_BTd: torch.Tensor, head: TeacherHead
) -> float:
    wait()
    started = time.perf_counter()
    loss_of(case, model, tokens_BS, teacher_BTd, head).backward()
    wait()
    seconds = time.perf_counter() - started
    model.zero_grad(set_to_none=True)
    return seconds
