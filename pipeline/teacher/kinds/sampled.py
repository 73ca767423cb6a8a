"""Random next tokens of every token, with weights. Shapes: R tokens, V vocabulary, n draws per token."""

import hashlib
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from pipeline.corpus.sample import AnnotatedSample
from pipeline.teacher.maker import Cut, tempered
from pipeline.teacher.packing import PackedMaker
from schemas.cache.token_rows import row_positions


class SampledMaker(PackedMaker):
    """Ids and weights of p = softmax(z / temperature)."""

    name = "sampled"

    def begin(self, samples: Sequence[AnnotatedSample], device: torch.device) -> Cut:
        """A cut into ids and weights, [R, n] each. Uniform numbers follow from seed and sample id alone."""
        record = self.record
        per_sample = [
            uniforms(s.id, len(s.token_ids), record.entries, record.seed)[row_positions(s.token_rows)] for s in samples
        ]
        uniform_Nn = torch.from_numpy(np.concatenate(per_sample)).to(device)

        def cut(logits_RV: Tensor, rows: slice) -> tuple[Tensor, Tensor]:
            return draw(tempered(logits_RV, record.temperature).log_softmax(-1), uniform_Nn[rows], record.proposal)

        return cut


def draw(logp_RV: Tensor, uniform_Rn: Tensor, proposal: float) -> tuple[Tensor, Tensor]:
    """n draws with replacement from q ~ p^proposal and their weights p / q / n, both [R, n] (arXiv 2503.16870, sec. 4).

    E[sum_i weight_i f(id_i)] = E_p[f] for every f, so the weights are not scaled to sum to 1. A uniform number u in
    [0, 1) gives the first token at which the running sum of q, in float64, exceeds u. Where p is not a number, neither
    are the weights.
    """
    logq_RV, sums_RV = propose(logp_RV, proposal)
    ids_Rn = torch.searchsorted(sums_RV, uniform_Rn, right=True).clamp_(max=logp_RV.shape[1] - 1)
    ratio_Rn = (logp_RV.gather(1, ids_Rn) - logq_RV.gather(1, ids_Rn)).exp()
    return ids_Rn, ratio_Rn / uniform_Rn.shape[1]


def propose(logp_RV: Tensor, proposal: float) -> tuple[Tensor, Tensor]:
    """log q, and the running sum of q in float64, both [R, V]: the last is 1."""
    logq_RV = (logp_RV if proposal == 1 else proposal * logp_RV).log_softmax(-1)
    sums_RV = logq_RV.double().exp_().cumsum_(-1)
    sums_RV /= sums_RV[:, -1:].clone()
    return logq_RV, sums_RV


def uniforms(sample_id: str, tokens: int, draws: int, seed: int) -> np.ndarray:
    """[tokens, draws] float64 in [0, 1): a function of the arguments, whatever the batch, the worker and the device."""
    digest = hashlib.sha256(f"{seed} {sample_id}".encode()).digest()
    bits = np.random.PCG64(int.from_bytes(digest, "little"))
    return np.random.Generator(bits).random((tokens, draws))


MAKER = SampledMaker
