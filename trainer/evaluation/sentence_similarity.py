"""Semantic textual similarity: does a model find the sentences alike that people find alike?

Spearman's rank correlation between the cosine of two sentences' embeddings and the score that people gave the pair,
times 100, as the STS benchmark is reported. Costs one forward pass over every distinct sentence.
"""

import math
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from schemas.models.forward import forward_errors
from schemas.models.positions import require_tokens
from trainer.evaluation.metrics.spearman import Spearman
from trainer.evaluation.sentence_pairs import SentencePair
from trainer.student.sentence_encoder import SentenceEncoder
from trainer.student.sentence_tokens import sentence_tokens


def evaluate_sentences(
    model: SentenceEncoder,
    tokenizer: PreTrainedTokenizerBase,
    pairs: Sequence[SentencePair],
    device: torch.device | str = "cpu",
) -> Spearman:
    """Score `pairs`. The model must be on `device`; it is left in the mode it came in.

    A model that gives every pair the same similarity does not rank them, and scores 0.
    """
    texts = list(dict.fromkeys(text for pair in pairs for text in (pair.first, pair.second)))
    row = {text: number for number, text in enumerate(texts)}
    states_nd = embed(model, tokenizer, texts, device).astype(np.float64)
    states_nd /= np.maximum(np.linalg.norm(states_nd, axis=1, keepdims=True), 1e-12)
    first_nd = states_nd[[row[pair.first] for pair in pairs]]
    second_nd = states_nd[[row[pair.second] for pair in pairs]]
    similarity_n = (first_nd * second_nd).sum(1)
    return Spearman(100 * spearman(similarity_n, np.array([pair.score for pair in pairs])), len(pairs))


@torch.inference_mode()
def embed(
    model: SentenceEncoder,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    device: torch.device | str = "cpu",
    batch_tokens: int = 4096,
) -> np.ndarray:
    """[texts, d] float32. `batch_tokens` bounds a forward pass, padding counted, and changes nothing but rounding."""
    ids = sentence_tokens(tokenizer, texts, model.layout.max_tokens)
    require_tokens(model, max(map(max, ids)), "the model's tokenizer")
    was_training = model.training
    rows: dict[int, np.ndarray] = {}
    try:
        model.eval()
        for batch in _batches(ids, batch_tokens):
            longest = len(ids[batch[0]])
            tokens_BS = torch.tensor([ids[text] + [0] * (longest - len(ids[text])) for text in batch], device=device)
            length_B = torch.tensor([len(ids[text]) for text in batch], device=device)
            mask_BS = torch.arange(longest, device=device) < length_B[:, None]
            with forward_errors(model.model, f"over {longest} tokens"):
                rows |= dict(zip(batch, model(tokens_BS, mask_BS).cpu().numpy(), strict=True))
    finally:
        model.train(was_training)
    return np.stack([rows[text] for text in range(len(texts))])


def spearman(x: np.ndarray, y: np.ndarray) -> float:
    """Pearson's correlation of the ranks, equal values sharing their mean rank; 0 if either side has one value only."""
    a, b = (_ranks(values) - (len(values) + 1) / 2 for values in (x, y))
    scale = math.sqrt(float(a @ a) * float(b @ b))
    return float(a @ b) / scale if scale else 0.0


def _ranks(values: np.ndarray) -> np.ndarray:
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    last: np.ndarray = np.cumsum(counts)
    ranks: np.ndarray = (last - (counts - 1) / 2)[place]
    return ranks


def _batches(ids: Sequence[Sequence[int]], batch_tokens: int) -> Iterator[list[int]]:
    """Places in `ids`, longest first, so that a batch pads little."""
    batch: list[int] = []
    for text in sorted(range(len(ids)), key=lambda text: -len(ids[text])):
        if batch and len(ids[batch[0]]) * (len(batch) + 1) > batch_tokens:
            yield batch
            batch = []
        batch.append(text)
    if batch:
        yield batch
