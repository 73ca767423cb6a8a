"""Offline equals online for stored teacher distributions, in a cache that keeps no hidden state at all."""

from typing import Any

import pytest
import torch
from transformers import AutoTokenizer

from schemas.cache.reader import Cache
from tests.caches import build_cache, extraction, write_corpus
from tests.tiny import tiny_llama, tiny_tokenizer
from tests.trainer.live import POSITIONS, assert_equal, live_teacher, loss_and_gradients, setting
from tests.trainer.objectives.answers import of_kind, with_answers
from trainer.data.batch import Batch
from trainer.data.teacher_states import SparseLogits, SparseTeacher

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
    tokenizer = AutoTokenizer.from_pretrained(cache.path.parent / "teacher", pad_token="<pad>", padding_side="right")
    encoded = tokenizer([cache.sample(position).text for position in POSITIONS], return_tensors="pt", padding=True)
    with torch.no_grad():
        log_p = (live_teacher(cache)(**encoded).logits.double() / TEMPERATURE).log_softmax(-1)
    values, ids = log_p.sort(descending=True)
    tail = values[..., 12:].logsumexp(-1, keepdim=True)
    stored = of_kind(batch, SparseTeacher)
    if SparseTeacher("top_k") in stored:
        stored[SparseTeacher("top_k")] = SparseLogits(ids[..., :12], torch.cat([values[..., :12], tail], -1).float())
    if SparseTeacher("sampled") in stored:
        drawn = stored[SparseTeacher("sampled")].ids_BTn
        log_q = (0.8 * log_p).log_softmax(-1)
        weights = (log_p - log_q).gather(-1, drawn).exp() / drawn.shape[-1]
        stored[SparseTeacher("sampled")] = SparseLogits(drawn, weights.float())
    return with_answers(batch, stored)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_stored_distributions_give_the_live_loss(cache: Cache, name: str) -> None:
    assert {array.kind for array in cache.manifest.arrays}.isdisjoint({"hidden", "mass"})
    model, _, objective, batch = setting(cache, OBJECTIVES[name], False)
    offline = loss_and_gradients(model, objective, batch)
    assert_equal(offline, loss_and_gradients(model, objective, live(cache, batch)), learners=1)
