"""Weights in bfloat16 whose optimiser works in float32: it keeps a master of each weight, which is the weight before it
was rounded (Micikevicius et al., Mixed Precision Training, arXiv 1710.03740).

bfloat16 has 8 bits for a number: an update below 1/512 of a weight would round to nothing, and so would what a later
batch adds to a gradient that is 512 times as large. So a gradient becomes float32 as soon as the backward pass has made
it, and batches, ranks and the norm are summed there. Per trained weight that is 2 bytes, 4 of its master, 4 of its
gradient, and the optimiser's state in float32; a weight that is not trained takes 2.

The shares of a divided student are masters themselves: FSDP2 rounds what it gathers of them (`division`).
"""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

ROUNDED = "rounded"  # a group's key: the model's weights of which the group's parameters are the masters


def hold_in_bfloat16(model: nn.Module, keep_trained: bool = False) -> dict[nn.Parameter, nn.Parameter]:
    """Round the model's weights to bfloat16, in place; returns the float32 masters of those that are trained.

    With `keep_trained` only weights that are not trained are rounded, and there are no masters.
    """
    masters = {}
    for weight in model.parameters():
        if weight.requires_grad and keep_trained:
            continue
        if weight.requires_grad:
            masters[weight] = nn.Parameter(weight.detach())
        weight.data = weight.detach().to(torch.bfloat16)
    for weight, master in masters.items():
        weight.register_post_accumulate_grad_hook(_moved_to(master))
    return masters


def _moved_to(master: nn.Parameter) -> Any:
    """What adds a gradient to the master's as soon as it is there, and frees it."""

    def move(weight: Tensor) -> None:
        assert weight.grad is not None
        if master.grad is None:
            master.grad = weight.grad.float()
        else:
            master.grad += weight.grad
        weight.grad = None

    return move


def group_of_masters(group: dict[str, Any], masters: Mapping[nn.Parameter, nn.Parameter]) -> dict[str, Any]:
    """The optimiser's group with masters for the weights that have them."""
    rounded = [weight for weight in group["params"] if weight in masters]
    if not rounded:
        return group
    return group | {"params": [masters[weight] for weight in rounded], ROUNDED: rounded}


def rounded_weights(optimizer: torch.optim.Optimizer) -> Iterator[tuple[int, nn.Parameter, nn.Parameter]]:
    """Of each master: its number, counted over all groups from 0, the master, and its weight."""
    number = 0
    for group in optimizer.param_groups:
        for place, weight in enumerate(group.get(ROUNDED, ())):
            yield number + place, group["params"][place], weight
        number += len(group["params"])


@torch.no_grad()
def round_masters(optimizer: torch.optim.Optimizer, *_: Any) -> None:
    """Make every weight its master's nearest bfloat16, ties to even: after each step."""
    for _number, master, weight in rounded_weights(optimizer):
        weight.copy_(master)
