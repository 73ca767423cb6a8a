"""The passes over logits on a GPU, by kernels of `triton_rows`: each number is read twice and written once.

As single operations of torch they read and write it some twenty times, which on an H200 takes two to three times as
long as the products that make the logits. Triton comes with torch for CUDA, and needs the machine's C compiler. Without
it, and on a CPU, losses take torch's operations: the same numbers, to rounding.

Shapes: p positions, n rows, V student vocabulary, N compared columns.
"""

import logging
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from schemas.failures import memory_failed

logger = logging.getLogger(__name__)

DTYPES = (torch.float32, torch.bfloat16, torch.float16)


class Entropy(NamedTuple):
    """Cross-entropy of some positions: each one's label, and what its gradient is multiplied with, 0 without one."""

    label_p: Tensor
    scale_p: Tensor


class Spread(NamedTuple):
    """A gradient of rows that goes to their members, each multiplied with the member's scale."""

    gradient_nN: Tensor
    row_p: Tensor
    scale_p: Tensor
    column_V: Tensor  # int32: which of the N columns each of the vocabulary is, or -1


def is_fused(logits: Tensor) -> bool:
    """Whether these logits are on a device, and in a dtype, that the kernels take."""
    return logits.is_cuda and logits.dtype in DTYPES and _has_triton(logits.device)


@lru_cache
def _has_triton(device: torch.device) -> bool:
    """Says once why there are no kernels, where there could be."""
    try:
        logits = torch.zeros(1, 2, device=device)
        entropy_rows(logits, torch.empty_like(logits), Entropy(torch.zeros(1, device=device).long(), logits[:, 0]))
    # No Triton, no C compiler, no Python headers, a driver that it does not know, no place to write.
    except Exception as error:
        if memory_failed(error):  # which may be there the next time
            raise
        reason = str(error).strip().split("\n")[0]
        logger.warning(
            "losses over logits run as single operations, which takes up to a third longer: Triton cannot compile here "
            "(%s: %s). It takes the package triton, which torch for CUDA brings, and a C compiler, say gcc",
            *(type(error).__name__, reason),
        )
        return False
    return True


def kl_rows(
    logits_pV: Tensor,
    teacher_pN: Tensor,
    scale_p: Tensor,
    temperature: float,
    out_pV: Tensor,
    entropy: Entropy | None = None,
) -> tuple[Tensor, Tensor]:
    """KL(softmax(t) || softmax(z / tau)) over the first N columns, t being divided already, and -log softmax(z)[label],
    [p] each. Writes scale (q - p), with 0 after the first N columns, plus cross-entropy's gradient, into `out_pV`,
    which may be the logits."""
    kl_p, nll_p = _values(logits_pV, len(logits_pV)), _values(logits_pV, len(logits_pV))
    label_p, entropy_scale_p = _labels(entropy, scale_p)
    _launch(
        "kl_rows", len(logits_pV),
        *_rows(logits_pV), *_rows(teacher_pN), scale_p, kl_p, label_p, entropy_scale_p, nll_p, *_rows(out_pV),
        1 / temperature, logits_pV.shape[1], teacher_pN.shape[1], HAS_ENTROPY=entropy is not None,
    )  # fmt: skip
    return kl_p, nll_p


def pooled_kl_rows(
    logits_pV: Tensor,
    first_n: Tensor,
    share_p: Tensor,
    ids_N: Tensor | None,
    teacher_nN: Tensor,
    temperature: float,
) -> Tensor:
    """KL of rows that are weighted sums of positions, [n], in the columns `ids_N` or the first N. Row r sums those from
    first[r] to first[r + 1] - 1, so `first_n` has one number more than rows. Writes q - p over `teacher_nN`."""
    kl_n = _values(logits_pV, len(teacher_nN))
    _launch(
        "pooled_kl_rows", len(teacher_nN),
        *_rows(logits_pV), first_n, share_p, first_n if ids_N is None else ids_N, *_rows(teacher_nN), kl_n,
        1 / temperature, teacher_nN.shape[1], HAS_IDS=ids_N is not None,
    )  # fmt: skip
    return kl_n


def entropy_rows(
    logits_pV: Tensor,
    out_pV: Tensor,
    entropy: Entropy | None,
    spread: Spread | None = None,
) -> Tensor:
    """-log softmax(z)[label], [p], or 0 without labels. Writes its gradient, and what is `spread`, into `out_pV`, which
    may be the logits."""
    nll_p = _values(logits_pV, len(logits_pV)).zero_()
    label_p, entropy_scale_p = _labels(entropy, nll_p)
    other_nN, row_p, scale_p, column_V = spread or Spread(nll_p[:, None], label_p, nll_p, label_p)
    _launch(
        "entropy_rows", len(logits_pV),
        *_rows(logits_pV), label_p, entropy_scale_p, nll_p, *_rows(other_nN), row_p, scale_p, column_V, *_rows(out_pV),
        logits_pV.shape[1], HAS_ENTROPY=entropy is not None, HAS_OTHER=spread is not None,
    )  # fmt: skip
    return nll_p


def _launch(kernel: str, rows: int, *arguments: Any, **which: bool) -> None:
    """Numbers of a vector that do not follow one another, such as a column of a matrix, are copied: a kernel would take
    what lies between them."""
    from trainer.objectives.kernels import triton_rows

    if rows:
        launched = getattr(triton_rows, kernel)[(rows,)]
        with torch.cuda.device_of(arguments[0]):
            given = (x.contiguous() if isinstance(x, Tensor) and x.ndim == 1 else x for x in arguments)
            launched(*given, **which, BLOCK=triton_rows.BLOCK, num_warps=triton_rows.WARPS)


def _rows(rows_nV: Tensor) -> tuple[Tensor, int]:
    """A matrix whose rows have no gaps, and how far one row is from the next."""
    assert rows_nV.stride(1) == 1 or rows_nV.shape[1] == 1
    return rows_nV, rows_nV.stride(0)


def _values(like: Tensor, rows: int) -> Tensor:
    return torch.empty(rows, dtype=torch.float32, device=like.device)


def _labels(entropy: Entropy | None, unread: Tensor) -> tuple[Tensor, Tensor]:
    """A kernel takes a pointer also where it reads nothing."""
    return entropy or (unread, unread)
