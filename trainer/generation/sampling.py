"""Drawing the next token by inverse transform, from a sample's own numbers: no other sample changes what it gets.

B samples, V tokens, N numbers of one sample. Costs a sort of [B, V] per token, unless top_p is 1.
"""

import hashlib
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from transformers import LogitsProcessor


def uniform_numbers(seed: int, sample_id: str, count: int) -> np.ndarray:
    """[N] float32 in [0, 1): a pure function of seed and id, and its first numbers are those of any larger `count`."""
    digest = hashlib.blake2b(f"{seed}\n{sample_id}".encode(), digest_size=16).digest()
    return np.random.default_rng(int.from_bytes(digest, "little")).random(count, dtype=np.float32)


def draw(logits_BV: Tensor, uniform_B: Tensor, temperature: float, top_p: float) -> Tensor:
    """[B] long: the first token, in order of id, at which the cumulative p exceeds uniform * sum p.

    p = softmax(z / temperature) on the nucleus, 0 outside: the fewest likeliest tokens that hold `top_p`
    (Holtzman et al., arXiv 1904.09751). A temperature of 0 takes the likeliest.
    """
    if temperature == 0:
        return logits_BV.argmax(-1)
    # In float64, so that a cumulative sum over a large vocabulary ends where it should.
    p_BV = (logits_BV.double() / temperature).softmax(-1)
    if top_p < 1:
        sorted_BV, token_BV = torch.sort(p_BV, dim=-1, descending=True, stable=True)
        outside_BV = sorted_BV.cumsum(-1) - sorted_BV >= top_p
        p_BV = p_BV.masked_fill(torch.zeros_like(outside_BV).scatter(-1, token_BV, outside_BV), 0.0)
    cumulative_BV = p_BV.cumsum(-1)
    # A float32 below 1 leaves room for rounding: the product stays below the last cumulative value.
    aim_B1 = uniform_B.double()[:, None] * cumulative_BV[:, -1:]
    return torch.searchsorted(cumulative_BV, aim_B1, right=True)[:, 0]


class InverseTransform(LogitsProcessor):  # type: ignore[misc]
    """Leaves transformers' greedy search one token to choose: the one that is drawn."""

    def __init__(self, uniforms: Sequence[np.ndarray], start: int, size: int, temperature: float, top_p: float):
        """`uniforms`: [N] for each sample. `start`: the prompts' width. `size`: tokens the tokenizer knows; model
        vocabularies are padded to round sizes, and nothing beyond is ever drawn."""
        self.uniform_BN = torch.from_numpy(np.stack(uniforms))
        self.start, self.size, self.temperature, self.top_p = start, size, temperature, top_p

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """[B, V] like `scores`: 0 at the token that is drawn, -inf elsewhere. `input_ids`, [B, S], tell the place."""
        uniform_B = self.uniform_BN[:, input_ids.shape[1] - self.start].to(scores.device)
        token_B = draw(scores[:, : self.size], uniform_B, self.temperature, self.top_p)
        return torch.full_like(scores, -torch.inf).scatter(1, token_B[:, None], 0.0)
