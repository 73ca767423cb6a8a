"""The gradient of a step: summed over ranks, and clipped by its norm.

Gradients are summed after the last backward pass of a step, some parameters at a time in one flat tensor, in the order
of parameters. `DistributedDataParallel` would sum them while the backward pass still runs, but it counts on every rank
calling the wrapped model once per pass and on every parameter taking part: losses that read the head's weight, that
have parameters of their own, ranks without a sample, and a second pass at other weights are all outside of that.
What is lost: a ring sends 2 (n - 1) / n gradients through each link. Those of 0.5 billion float32 parameters take some
13 ms over an NVLink of 300 GB/s, once per step and not hidden behind the backward pass.
"""

import math
from collections.abc import Iterable, Sequence

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from trainer.optimisation.ranks import Ranks

BUCKET = 1 << 24  # numbers that are summed at once: 64 MB in float32
PIECE = 1 << 16  # numbers whose norm is taken at once


def sum_gradients(parameters: Sequence[nn.Parameter], ranks: Ranks) -> None:
    """Every rank's gradients become the sum over all ranks, the same bits on each.

    Those of a divided student are summed already. A parameter without a gradient on this rank takes that of the others;
    one without any on all ranks stays without.
    """
    if ranks.size == 1:
        return
    parameters = [parameter for parameter in parameters if not isinstance(parameter, DTensor)]
    flags = ranks.gather("".join("01"[parameter.grad is not None] for parameter in parameters))
    held = [p for p, has in zip(parameters, zip(*flags, strict=True), strict=True) if "1" in has]
    for parameter in held:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    for bucket in _buckets([parameter.grad for parameter in held if parameter.grad is not None]):
        flat = torch.cat([gradient.flatten() for gradient in bucket])
        dist.all_reduce(flat)
        for gradient, summed in zip(bucket, flat.split([g.numel() for g in bucket]), strict=True):
            gradient.copy_(summed.view_as(gradient))


def norm_of(tensors: Iterable[Tensor]) -> float:
    """Of all tensors as one vector. Every rank must ask for it if any is divided."""
    held = list(tensors)
    divided = [tensor.to_local() for tensor in held if isinstance(tensor, DTensor)]
    whole = _norm(tensor for tensor in held if not isinstance(tensor, DTensor))
    if not divided:
        return whole
    return math.hypot(whole, *Ranks.here().gather(_norm(divided)))


def clip_gradients(parameters: Sequence[nn.Parameter], limit: float) -> float:
    """Scale all gradients together so that their norm is up to `limit`; returns what it was."""
    norm = norm_of(parameter.grad for parameter in parameters if parameter.grad is not None)
    if limit < norm + 1e-6:  # else torch would multiply with 1
        total = torch.tensor(norm)
        whole = [parameter for parameter in parameters if not isinstance(parameter, DTensor)]
        torch.nn.utils.clip_grads_with_norm_(whole, limit, total)
        scale = (limit / (total + 1e-6)).item()  # in float32, as torch has it, which takes no shares beside whole ones
        for gradient in (each.grad for each in parameters if isinstance(each, DTensor) and each.grad is not None):
            gradient.mul_(scale)
    return norm


def _norm(tensors: Iterable[Tensor]) -> float:
    held = list(tensors)
    if not all(tensor.is_cpu for tensor in held):
        return torch.nn.utils.get_total_norm(held).item()  # of all tensors in few kernels, which add as a tree does
    norms = [_norm_on_cpu(tensor) for tensor in held]
    return torch.linalg.vector_norm(torch.stack(norms)).item() if norms else 0.0


def _norm_on_cpu(tensor: Tensor) -> Tensor:
    """There torch adds all squares of a float32 tensor to a few sums in float32: of 28 million numbers, the norm came
    out too small by 0.16 %. So it is taken of pieces first."""
    flat = tensor.flatten()
    whole = len(flat) - len(flat) % PIECE
    norms = torch.linalg.vector_norm(flat[whole:])[None]
    if whole:
        norms = torch.cat([torch.linalg.vector_norm(flat[:whole].view(-1, PIECE), dim=1), norms]).double()
    norm: Tensor = torch.linalg.vector_norm(norms).to(tensor.dtype)
    return norm


def _buckets(gradients: Iterable[Tensor]) -> Iterable[list[Tensor]]:
    """Neighbours of one dtype and device, up to BUCKET numbers, or a single larger one."""
    bucket: list[Tensor] = []
    for gradient in gradients:
        full = sum(each.numel() for each in bucket) + gradient.numel() > BUCKET
        if bucket and (full or (gradient.dtype, gradient.device) != (bucket[0].dtype, bucket[0].device)):
            yield bucket
            bucket = []
        bucket.append(gradient)
    if bucket:
        yield bucket
