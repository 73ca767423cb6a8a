"""Kernels over logits: against float64, the same bits on every run, and how long they take beside torch's operations.

python -m tests.gpu kernels
"""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor

from tests.gpu.steps import wait
from trainer.objectives.kernels import fused
from trainer.objectives.kernels.fused import Entropy, Spread
from trainer.objectives.kernels.pooled_rows import Columns
from trainer.objectives.kernels.powers import Powers

VOCABULARY, ROWS, SPAN, FEW = 151_936, 880, 2, 16
VALUE, GRADIENT = 1e-5, 1e-6  # against float64, relative and absolute


def check_kernels(folder: Path) -> Iterator[tuple[str, str]]:
    """Of bfloat16 logits: the largest errors of values and of gradients before they are rounded, then milliseconds."""
    torch.manual_seed(0)
    yield "kl: errors of values, gradient", _alike(*_kl(torch.float32))
    yield "pooled kl: errors of values, gradient", _alike(*_pooled(torch.float32))
    (_, rounded), (_, wanted) = _kl(torch.bfloat16)
    assert (rounded == wanted.bfloat16()).float().mean() > 0.999
    logits_pV, teacher_pN = _drawn(ROWS).bfloat16(), _drawn(ROWS)
    scale_p, entropy = torch.rand(ROWS, device="cuda"), _entropy(ROWS)
    out_pV = torch.empty_like(logits_pV)
    runs = {
        "cross-entropy": lambda: fused.entropy_rows(logits_pV, out_pV, entropy),
        "kl with it": lambda: fused.kl_rows(logits_pV, teacher_pN, scale_p, 2.0, out_pV, entropy)[0],
        "softmax by torch's operations": lambda: Powers.of(logits_pV.float()).sum_n1,
    }
    for name, run in runs.items():
        first, second = run(), run()
        assert torch.equal(first, second)
        numbers = ROWS * VOCABULARY
        yield f"{name}: ms of {numbers:,} numbers", f"{_milliseconds(run):.2f}"


def _drawn(rows: int) -> Tensor:
    return 4 * torch.randn(rows, VOCABULARY, device="cuda")


def _entropy(rows: int) -> Entropy:
    return Entropy(torch.randint(0, VOCABULARY, (rows,), device="cuda"), torch.rand(rows, device="cuda"))


Made = tuple[Tensor, Tensor]  # values [.], gradient [p, V]


def _kl(dtype: torch.dtype) -> tuple[Made, Made]:
    """By the kernel and in float64."""
    logits_pV, teacher_pV, entropy = _drawn(FEW).bfloat16(), _drawn(FEW), _entropy(FEW)
    scale_p = torch.rand(FEW, device="cuda")
    out_pV = torch.empty_like(logits_pV, dtype=dtype)
    values = fused.kl_rows(logits_pV, teacher_pV, scale_p, 2.0, out_pV, entropy)
    wanted_pV = logits_pV.double().requires_grad_()
    wanted = _plain_kl(wanted_pV, teacher_pV), _plain_entropy(wanted_pV, entropy)
    (2 * scale_p @ wanted[0].float() + entropy.scale_p @ wanted[1].float()).backward()
    assert wanted_pV.grad is not None
    return (torch.cat(values), out_pV), (torch.cat(wanted).detach(), wanted_pV.grad)


def _pooled(dtype: torch.dtype) -> tuple[Made, Made]:
    """The same of pairs of positions, in a half of the columns."""
    logits_pV, entropy, rows = _drawn(FEW).bfloat16(), _entropy(FEW), FEW // SPAN
    ids_N = torch.randperm(VOCABULARY, device="cuda")[: VOCABULARY // 2]
    teacher_nN = _drawn(rows)[:, : len(ids_N)].contiguous()
    row_p = torch.arange(FEW, device="cuda") // SPAN
    share_p = torch.rand(FEW, device="cuda")
    first_n = torch.arange(0, FEW + 1, SPAN, device="cuda")
    wanted_pV = logits_pV.double().requires_grad_()
    pooled_nV = torch.zeros(rows, VOCABULARY, dtype=torch.float64, device="cuda")
    pooled_nV = pooled_nV.index_add(0, row_p, wanted_pV * share_p[:, None])
    wanted = _plain_kl(pooled_nV[:, ids_N], teacher_nN), _plain_entropy(wanted_pV, entropy)
    (wanted[0].sum() + (entropy.scale_p * wanted[1]).sum()).backward()
    kl_n = fused.pooled_kl_rows(logits_pV, first_n, share_p, ids_N, teacher_nN, 2.0)
    column_V = Columns(len(ids_N), ids_N).column_of(VOCABULARY, -1, logits_pV.device).int()
    out_pV = torch.empty_like(logits_pV, dtype=dtype)
    nll_p = fused.entropy_rows(logits_pV, out_pV, entropy, Spread(teacher_nN, row_p, share_p / 2, column_V))
    assert wanted_pV.grad is not None
    return (torch.cat([kl_n, nll_p]), out_pV), (torch.cat(wanted).detach(), wanted_pV.grad)


def _plain_kl(logits_nN: Tensor, teacher_nN: Tensor) -> Tensor:
    log_q_nN, log_p_nN = (logits_nN / 2).log_softmax(-1), teacher_nN.double().log_softmax(-1)
    return (log_p_nN.exp() * (log_p_nN - log_q_nN)).sum(-1)


def _plain_entropy(logits_pV: Tensor, entropy: Entropy) -> Tensor:
    return -logits_pV.log_softmax(-1).gather(1, entropy.label_p[:, None])[:, 0]


def _alike(found: Made, wanted: Made) -> str:
    value = float(((found[0] - wanted[0]) / wanted[0]).abs().max())
    gradient = float((found[1] - wanted[1]).abs().max())
    assert value < VALUE and gradient < GRADIENT, (value, gradient)
    return f"{value:.1e}, {gradient:.1e}"


def _milliseconds(run: Callable[[], Tensor], rounds: int = 9) -> float:
    seconds = []
    for _ in range(rounds):
        wait()
        started = time.perf_counter()
        run()
        wait()
        seconds.append(time.perf_counter() - started)
    return 1000 * sorted(seconds)[rounds // 2]
