"""The teacher's next-token distribution at every token, cut down to a few entries: the likeliest, or a weighted sample.

The unembedding is applied to a few rows at a time: whatever the batch, logits and what is made of them stay within
LOGITS_BYTES. Takes V * d * 4 bytes more for a teacher that computes in less than float32.

Shapes: N tokens, R of them at a time, V vocabulary, d hidden size, n entries a token.
"""

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from pipeline.corpus.sample import AnnotatedSample
from pipeline.teacher.check import head_logits
from schemas.cache.arrays import SparseKind
from schemas.cache.manifest import NO_TAIL, SPARSE_ARRAYS, SparseRecord
from schemas.cache.teacher import HeadRecord

LOGITS_BYTES = 256 * 2**20
# float32: logits, log p, log q, and one on its way; float64: q, its running sum, and that over its end.
BYTES_A_LOGIT = 40


class SparseLogits:
    """Cuts down what a head makes of final states; what is kept is decided by the records."""

    def __init__(
        self,
        weight_Vd: Tensor,
        bias_V: Tensor | None,
        head: HeadRecord,
        records: Mapping[SparseKind, SparseRecord],
    ):
        self._weight_Vd = weight_Vd.float()  # once, not at every few rows
        self._bias_V, self._head, self._records = bias_V, head, records
        self._rows = max(1, LOGITS_BYTES // (BYTES_A_LOGIT * len(weight_Vd)))

    def __call__(self, hidden_Nd: Tensor, samples: Sequence[AnnotatedSample]) -> dict[str, Tensor]:
        """Arrays [N, n] by their path, for the final states of the tokens of `samples`, end to end."""
        uniform_Nn = self._uniforms(samples).to(hidden_Nd.device)
        parts: dict[str, list[Tensor]] = {}
        for start in range(0, len(hidden_Nd), self._rows):
            rows = slice(start, start + self._rows)
            logits_RV = head_logits(hidden_Nd[rows], self._weight_Vd, self._bias_V, self._head)
            for kind, record in self._records.items():
                logp_RV = (logits_RV / record.temperature).log_softmax(-1)
                found = (
                    top_k(logp_RV, record.entries)
                    if record.proposal is None
                    else draw(logp_RV, uniform_Nn[rows], record.proposal)
                )
                for path, values_Rn in zip(SPARSE_ARRAYS[kind], found, strict=True):
                    parts.setdefault(path, []).append(values_Rn)
        return {path: torch.cat(values) for path, values in parts.items()}

    def _uniforms(self, samples: Sequence[AnnotatedSample]) -> Tensor:
        sampled = self._records.get("sampled")
        if sampled is None or sampled.seed is None:
            return torch.empty(0)
        rows = [uniforms(s.id, len(s.token_ids), sampled.entries, sampled.seed) for s in samples]
        return torch.from_numpy(np.concatenate(rows))


def top_k(logp_RV: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k likeliest tokens, likeliest first, [R, k]; their log-probabilities and that of all others, [R, k + 1].

    The tail is summed up where it is: 1 - sum p in float32 knows nothing of a tail below 1e-7. Without others, NO_TAIL.
    """
    values_Rk, ids_Rk = logp_RV.topk(k)
    tail_R1 = logp_RV.scatter(1, ids_Rk, -torch.inf).logsumexp(1, keepdim=True)
    return ids_Rk, torch.cat([values_Rk, tail_R1.clamp_min(NO_TAIL)], dim=1)


def draw(logp_RV: Tensor, uniform_Rn: Tensor, proposal: float) -> tuple[Tensor, Tensor]:
    """n draws with replacement from q ~ p^proposal and their weights p / q / n, both [R, n] (arXiv 2503.16870, sec. 4).

    E[sum_i weight_i f(id_i)] = E_p[f] for every f, so the weights are not scaled to sum to 1. A uniform number u in
    [0, 1) gives the first token at which the running sum of q, in float64, exceeds u. Where p is not a number, neither
    are the weights.
    """
    logq_RV = (proposal * logp_RV).log_softmax(-1)
    sums_RV = logq_RV.double().exp_().cumsum_(-1)
    sums_RV /= sums_RV[:, -1:].clone()
    ids_Rn = torch.searchsorted(sums_RV, uniform_Rn, right=True).clamp_(max=logp_RV.shape[1] - 1)
    ratio_Rn = (logp_RV.gather(1, ids_Rn) - logq_RV.gather(1, ids_Rn)).exp()
    return ids_Rn, ratio_Rn / uniform_Rn.shape[1]


def uniforms(sample_id: str, tokens: int, draws: int, seed: int) -> np.ndarray:
    """[tokens, draws] float64 in [0, 1): a function of the arguments, whatever the batch, the worker and the device."""
    digest = hashlib.sha256(f"{seed} {sample_id}".encode()).digest()
    bits = np.random.PCG64(int.from_bytes(digest, "little"))
    return np.random.Generator(bits).random((tokens, draws))
