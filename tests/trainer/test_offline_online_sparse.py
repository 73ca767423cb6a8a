"""Offline equals online for stored teacher distributions, in a cache that keeps no hidden state at all."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from tests.caches import build_cache, extraction, write_corpus
from tests.tiny import tiny_llama, tiny_tokenizer
from tests.trainer.test_offline_online import POSITIONS, loss_and_gradient, setting
from trainer.batch import Batch, SparseLogits
from trainer.cache import Cache

TEMPERATURE = 2.0
OBJECTIVES: dict[str, list[dict[str, Any]]] = {
    "top_k": [{"loss": "kd", "logits": "top_k", "temperature": TEMPERATURE}],
    "top_k, skewed": [
        {"loss": "kd", "logits": "top_k", "temperature": TEMPERATURE, "divergence": "skew_reverse_kl", "skew": 0.2}
    ],
    "sampled": [{"loss": "kd", "logits": "sampled", "temperature": TEMPERATURE}],
}


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    folder = tmp_path_factory.mktemp("sparse")
    tiny_llama(folder / "teacher", tiny_tokenizer(folder / "teacher", "bpe"))
    states = {
        "hidden": [],
        "mass": [],
        "top_k": {"k": 12, "temperature": TEMPERATURE},
        "sampled": {"draws": 20, "temperature": TEMPERATURE, "proposal": 0.8},
    }
    corpus = write_corpus(folder / "corpus.jsonl")
    return Cache(build_cache(extraction(folder / "cache", folder / "teacher", corpus, states=states)))


def live(cache: Cache, batch: Batch) -> Batch:
    """The likeliest tokens, and the weights of the tokens that were drawn, by the teacher as it computes them now."""
    folder = cache.path.parent / "teacher"
    teacher = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager", dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder, pad_token="<pad>", padding_side="right")
    encoded = tokenizer([cache.sample(position).text for position in POSITIONS], return_tensors="pt", padding=True)
    with torch.no_grad():
        log_p = (teacher(**encoded).logits.double() / TEMPERATURE).log_softmax(-1)
    values, ids = log_p.topk(12)
    sparse = dict(batch.sparse)
    if "top_k" in sparse:
        sparse["top_k"] = SparseLogits(ids, values.float())
    if "sampled" in sparse:
        drawn = sparse["sampled"].ids_BTn
        log_q = (0.8 * log_p).log_softmax(-1)
        sparse["sampled"] = SparseLogits(drawn, ((log_p - log_q).gather(-1, drawn).exp() / drawn.shape[-1]).float())
    return replace(batch, sparse=sparse)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_stored_distributions_give_the_live_loss(cache: Cache, name: str) -> None:
    assert {array.kind for array in cache.manifest.arrays}.isdisjoint({"hidden", "mass"})
    model, objective, batch = setting(cache, OBJECTIVES[name], False)
    offline, offline_gradient = loss_and_gradient(model, objective, batch)
    online, online_gradient = loss_and_gradient(model, objective, live(cache, batch))
    assert offline == pytest.approx(online, rel=1e-5)
    assert (offline_gradient - online_gradient).norm() <= 1e-5 * online_gradient.norm()
    assert online_gradient.norm() > 1e-3
