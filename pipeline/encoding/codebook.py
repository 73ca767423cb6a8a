"""A codebook: 256 centroids that a byte names one of, learnt by Lloyd's algorithm. The same rows give the same bits.

Shapes: N rows, g components, K centroids.
"""

import numpy as np
import torch
from torch import Tensor

SIZE = 256
ROUNDS = 8  # of Lloyd's algorithm: further ones gain less than a hundredth of what is left
ROWS_AT_ONCE = 512  # whose scores stay in a core's cache


def nearest(rows_Ng: Tensor, codebook_Kg: Tensor) -> Tensor:
    """[N] long: the nearest centroid of each row; of several, the first."""
    return nearest_lifted(lift_rows(rows_Ng), lift_centroids(codebook_Kg))


def lift_rows(rows_Ng: Tensor) -> Tensor:
    """[N, g + 1]: rows with a last component of one."""
    return torch.nn.functional.pad(rows_Ng, (0, 1), value=1.0)


def lift_centroids(codebook_Kg: Tensor) -> Tensor:
    """[g + 1, K]: a lifted row's product with these is greatest at the nearest centroid."""
    # argmin |x - c|^2 = argmax (x . c - |c|^2 / 2): one product with one more column.
    return torch.cat([codebook_Kg, -0.5 * codebook_Kg.square().sum(1, keepdim=True)], 1).T.contiguous()


def nearest_lifted(lifted_Nh: Tensor, centroids_hK: Tensor) -> Tensor:
    """`nearest` of what `lift_rows` and `lift_centroids` give."""
    if lifted_Nh.device.type != "cpu":
        return (lifted_Nh @ centroids_hK).argmax(1)
    found_N = np.empty(len(lifted_Nh), dtype=np.int64)
    # One room for all scores: fresh memory for each part would take as long to be made as the product.
    scores_nK = lifted_Nh.new_empty(min(ROWS_AT_ONCE, len(lifted_Nh)), centroids_hK.shape[1])
    for start in range(0, len(lifted_Nh), ROWS_AT_ONCE):
        some_nh = lifted_Nh[start : start + ROWS_AT_ONCE]
        scores = torch.mm(some_nh, centroids_hK, out=scores_nK[: len(some_nh)]).numpy()
        # NumPy's argmax is vectorised on a CPU, and takes an eighth of the time of torch's.
        scores.argmax(1, out=found_N[start : start + ROWS_AT_ONCE])
    return torch.from_numpy(found_N)


def train_codebook(rows_Ng: Tensor, seed: int) -> Tensor:
    """[256, g] centroids of float32 rows, on their device. Of fewer than 256 rows, centroids repeat."""
    centroids = _first_centroids(rows_Ng, seed)
    for _ in range(ROUNDS):
        sums_Kg, counts_K = _sums(rows_Ng, nearest(rows_Ng, centroids))
        means = (sums_Kg / counts_K.clamp_min(1)[:, None]).float()
        centroids = torch.where(counts_K[:, None] > 0, means, centroids)
    return centroids


def _sums(rows_Ng: Tensor, owner_N: Tensor) -> tuple[Tensor, Tensor]:
    """The sum of each centroid's rows, [256, g], and their number, [256], both float64. On a CPU in the order of the
    rows, so that nothing depends on the number of threads; elsewhere by a product, which adds without any race."""
    if rows_Ng.device.type == "cpu":
        owner = owner_N.numpy()
        sums = np.stack([np.bincount(owner, weights=column, minlength=SIZE) for column in rows_Ng.numpy().T], 1)
        return torch.from_numpy(sums), torch.from_numpy(np.bincount(owner, minlength=SIZE)).double()
    owns_KN = (owner_N == torch.arange(SIZE, device=owner_N.device)[:, None]).double()
    return owns_KN @ rows_Ng.double(), owns_KN.sum(1)


def _first_centroids(rows_Ng: Tensor, seed: int) -> Tensor:
    """Of one component, halfway between its quantiles and even steps: the best levels are denser than these, and reach
    further than those. Of several, rows drawn without repeats as far as there are enough."""
    if rows_Ng.shape[1] == 1:
        ordered = rows_Ng[:, 0].sort().values
        places = (torch.arange(SIZE, dtype=torch.float64, device=ordered.device) + 0.5) * len(ordered) / SIZE
        even = torch.linspace(float(ordered[0]), float(ordered[-1]), SIZE, device=ordered.device)
        return ((ordered[places.long().clamp_max(len(ordered) - 1)] + even) / 2)[:, None]
    drawn = torch.randperm(len(rows_Ng), generator=torch.Generator().manual_seed(seed))[:SIZE]
    return rows_Ng[drawn.repeat(-(-SIZE // len(drawn)))[:SIZE].to(rows_Ng.device)].clone()
