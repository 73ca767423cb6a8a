"""Entropy-regularised optimal transport between the positions of two sequences (Cuturi, 2013).

Costs 2 N products of a [T, S] kernel with a vector for each sample; the plan is differentiated through all of them.

Shapes: B samples, T and S positions of the two sequences, k width.
"""

import torch
from torch import Tensor

from trainer.numerics.geometry import ratio


def sinkhorn_plan(cost_BTS: Tensor, mask_BT: Tensor, mask_BS: Tensor, regularisation: float, iterations: int) -> Tensor:
    """P of MultiLevelOT, equation 19: K = exp(-C / lambda), rows and then columns brought to a sum of 1, N times over.

    Every column sums to 1 in the end, and the rows are as near to equal as N allows: to 1 for sequences of one length,
    to S / T for others, which leaves nobody out. Masked positions neither send nor receive. K itself is never rescaled:
    P = diag(u) K diag(v), and an iteration is two products, u = 1 / (K v) and v = 1 / (K^T u).
    """
    mask_BTS = mask_BT[:, :, None] & mask_BS[:, None, :]
    # The first thing that happens to a row is a division by its sum: taking its least cost off keeps exp in range.
    least_BT1 = cost_BTS.detach().masked_fill(~mask_BTS, torch.inf).amin(2, keepdim=True).nan_to_num(posinf=0.0)
    kernel_BTS = torch.where(mask_BTS, ((least_BT1 - cost_BTS) / regularisation).exp(), 0.0)
    sent_BT1, received_BS1 = mask_BT[:, :, None].to(cost_BTS.dtype), mask_BS[:, :, None].to(cost_BTS.dtype)
    # Rows are brought to S / T, not 1: the same plan, and u and v do not drift apart by S / T in every iteration.
    sent_BT1 = sent_BT1 * ratio(received_BS1.sum(1, keepdim=True), sent_BT1.sum(1, keepdim=True))
    u_BT1, v_BS1 = sent_BT1, received_BS1
    for _ in range(iterations):
        u_BT1 = ratio(sent_BT1, kernel_BTS @ v_BS1)
        v_BS1 = ratio(received_BS1, kernel_BTS.mT @ u_BT1)
    return u_BT1 * kernel_BTS * v_BS1.mT


def sinkhorn_distance(
    first_BTk: Tensor, second_BSk: Tensor, mask_BT: Tensor, mask_BS: Tensor, regularisation: float, iterations: int
) -> Tensor:
    """<P, C> of each sample, [B]: C_ij = |first_i - second_j| in the L1 norm; 0 if a side has no positions."""
    cost_BTS = torch.cdist(first_BTk, second_BSk, p=1.0)
    plan_BTS = sinkhorn_plan(cost_BTS, mask_BT, mask_BS, regularisation, iterations)
    return (plan_BTS * cost_BTS).sum((1, 2))
