"""From hidden states to components of which few matter: the Karhunen-Loeve transform, in the metric of what counts.

Shapes: N rows, d hidden size, k components, V vocabulary.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.encoding.head import Head

IDENTITY = 0.1  # of the metric's mean diagonal, mixed into it: directions that no logit sees still matter a little
ROWS_AT_ONCE = 128  # of logits


@dataclass(frozen=True)
class Transform:
    """y = (x - mean) encoder, x = mean + y decoder. Components descend in variance."""

    mean_d: Tensor
    encoder_dk: Tensor
    decoder_kd: Tensor


def karhunen_loeve(rows_Nd: Tensor, metric_dd: Tensor | None) -> Transform:
    """Of rows in float32; `metric_dd` is symmetric and positive, and None the identity.

    With G = L L^T and V the eigenvectors of the second moment of (x - mean) L: encoder = L V, decoder = V^T L^-1. A
    squared error in y is an error e^T G e of the state. Computed in float64.
    """
    mean_d = rows_Nd.double().mean(0)
    centred = rows_Nd.double() - mean_d
    if metric_dd is None:
        forward = backward = torch.eye(rows_Nd.shape[1], dtype=torch.float64, device=rows_Nd.device)
    else:
        values, vectors = torch.linalg.eigh(metric_dd.double())
        root = values.clamp_min(1e-12 * float(values[-1])).sqrt()
        forward, backward = vectors * root, (vectors / root).T
    moved = centred @ forward
    _, vectors = torch.linalg.eigh(moved.T @ moved)
    basis = vectors.flip(1)
    return Transform(mean_d.float(), (forward @ basis).float(), (basis.T @ backward).float())


def fisher_metric(rows_Nd: Tensor, head: Head, identity: float = IDENTITY) -> Tensor:
    """E[J^T (diag p - p p^T) J], [d, d] on the head's device: an error e of a final state costs about e^T G e / 2 nats.

    p = softmax(z) of the rows' logits z, J their derivative, W_U without a soft-cap; the mean over rows, and `identity`
    of its mean diagonal.
    """
    size = head.weight_Vd.shape[1]
    metric_dd = head.weight_Vd.new_zeros(size, size, dtype=torch.float32)
    favour_V = head.weight_Vd.new_zeros(len(head.weight_Vd), dtype=torch.float32)
    for some_nd in rows_Nd.split(ROWS_AT_ONCE):
        logits_nV = head.logits(some_nd)
        p_nV = logits_nV.softmax(-1)
        slope_nV = head.transform.backward(torch.ones_like(logits_nV), logits_nV)
        pull_nV = p_nV * slope_nV
        mean_nd = sum(
            (pull_nV[:, tokens] @ weight_vd for tokens, weight_vd in head.parts()), start=metric_dd.new_zeros(())
        )
        metric_dd -= mean_nd.T @ mean_nd
        favour_V += (pull_nV * slope_nV).sum(0)
    for tokens, weight_vd in head.parts():  # once: V d^2 is the dearest product here
        metric_dd += (weight_vd.T * favour_V[tokens]) @ weight_vd
    metric_dd /= len(rows_Nd)
    return metric_dd + identity * metric_dd.diagonal().mean() * torch.eye(size, device=metric_dd.device)
