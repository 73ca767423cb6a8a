"""Offline equals online for stored teacher distributions, in a cache that keeps no hidden state at all.

Up to what packing rounds: each log-probability to half a step, a draw's weight to 1 in 2,000, and nothing where draws
weigh alike. What is read back is held against plain NumPy over the bytes on disk, and the losses of it against float64.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoTokenizer

from pipeline.teacher.kinds.sampled import uniforms
from schemas.cache.reader import Cache
from tests.caches import build_cache, extraction, write_corpus
from tests.tiny import tiny_llama, tiny_tokenizer
from tests.trainer.live import POSITIONS, assert_equal, live_teacher, loss_and_gradients, setting
from tests.trainer.objectives.answers import of_kind, with_answers
from trainer.data.batch import Batch
from trainer.data.teacher_states import SparseLogits, SparseTeacher
from trainer.student.load import forward
from trainer.student.states import StudentLogits

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "cache-1-sparse"
TEMPERATURE = 2.0
K, DRAWS = 12, 20
OBJECTIVES: dict[str, list[dict[str, Any]]] = {
    "top_k": [{"loss": "kd", "logits": "top_k", "temperature": TEMPERATURE}],
    "top_k, skewed": [
        {"loss": "kd", "logits": "top_k", "temperature": TEMPERATURE, "divergence": "skew_reverse_kl", "skew": 0.2}
    ],
    "sampled": [{"loss": "kd", "logits": "sampled", "temperature": TEMPERATURE}],
}
ROUNDING = {"top_k": 2e-3, "top_k, skewed": 2e-3, "sampled": 5e-4}  # of a loss and of its gradient, as a share


@pytest.fixture(scope="module")
def caches(tmp_path_factory: pytest.TempPathFactory) -> dict[float, Cache]:
    """By the exponent of their proposal."""
    folder = tmp_path_factory.mktemp("sparse")
    tiny_llama(folder / "teacher", tiny_tokenizer(folder / "teacher", "bpe"))
    corpus = write_corpus(folder / "corpus.jsonl")
    found = {}
    for proposal in (0.8, 1.0):
        states = {
            "hidden": [],
            "mass": [],
            "top_k": {"k": K, "temperature": TEMPERATURE},
            "sampled": {"draws": DRAWS, "temperature": TEMPERATURE, "proposal": proposal},
        }
        config = extraction(folder / f"cache-{proposal}", folder / "teacher", corpus, states=states)
        found[proposal] = Cache(build_cache(config))
    return found


def live_logp(cache: Cache) -> torch.Tensor:
    """[B, T, V] float64: log softmax(z / tau) as the teacher computes it now."""
    tokenizer = AutoTokenizer.from_pretrained(cache.path.parent / "teacher", pad_token="<pad>", padding_side="right")
    encoded = tokenizer([cache.sample(position).text for position in POSITIONS], return_tensors="pt", padding=True)
    with torch.no_grad():
        logits: torch.Tensor = live_teacher(cache)(**encoded).logits
    return (logits.double() / TEMPERATURE).log_softmax(-1)


def live(cache: Cache, batch: Batch, proposal: float) -> Batch:
    """The likeliest tokens, and the draws one by one, with repeats: nothing is packed."""
    log_p = live_logp(cache)
    values, ids = log_p.sort(descending=True)
    tail = values[..., K:].logsumexp(-1, keepdim=True)
    stored = of_kind(batch, SparseTeacher)
    if SparseTeacher("top_k") in stored:
        stored[SparseTeacher("top_k")] = SparseLogits(ids[..., :K], torch.cat([values[..., :K], tail], -1).float())
    if SparseTeacher("sampled") in stored:
        log_q = (proposal * log_p).log_softmax(-1)
        uniform = np.zeros((*log_p.shape[:2], DRAWS))
        for row, position in enumerate(POSITIONS):
            sample = cache.sample(position)
            uniform[row, : len(sample.token_ids)] = uniforms(sample.id, len(sample.token_ids), DRAWS, 0)
        drawn = torch.searchsorted(log_q.exp().cumsum(-1), torch.from_numpy(uniform), right=True)
        weights = (log_p - log_q).gather(-1, drawn).exp() / DRAWS
        stored[SparseTeacher("sampled")] = SparseLogits(drawn, weights.float())
    return with_answers(batch, stored)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_stored_distributions_give_the_live_loss(caches: dict[float, Cache], name: str) -> None:
    cache = caches[0.8]
    assert {array.kind for array in cache.manifest.arrays}.isdisjoint({"hidden", "mass"})
    model, _, objective, batch = setting(cache, OBJECTIVES[name], False)
    value, (gradient,) = loss_and_gradients(model, objective, batch)
    live_value, (live_gradient,) = loss_and_gradients(model, objective, live(cache, batch, 0.8))
    assert value == pytest.approx(live_value, rel=ROUNDING[name])
    assert (gradient - live_gradient).norm() <= ROUNDING[name] * live_gradient.norm() and live_gradient.norm() > 1e-3


def test_draws_that_weigh_alike_lose_nothing(caches: dict[float, Cache]) -> None:
    model, _, objective, batch = setting(caches[1.0], OBJECTIVES["sampled"], False)
    offline = loss_and_gradients(model, objective, batch)
    assert_equal(offline, loss_and_gradients(model, objective, live(caches[1.0], batch, 1.0)), learners=1)


# --- Against plain NumPy over the bytes on disk -----------------------------------------------------------------------


def bits_of(row: np.ndarray, start: int, count: int) -> list[int]:
    """`count` bits of a row of bytes from bit `start` on, the lowest of a byte first."""
    return [(int(row[place // 8]) >> (place % 8)) & 1 for place in range(start, start + count)]


def elias_fano(row: np.ndarray, count: int, vocabulary: int) -> tuple[list[int], int]:
    """The ids of one row, and the bytes that they take."""
    low = max(0, (vocabulary // count).bit_length() - 1)
    unary = bits_of(row, count * low, count + ((vocabulary - 1) >> low))
    high = [place - i for i, place in enumerate(place for place, bit in enumerate(unary) if bit)]
    least = [sum(bit << j for j, bit in enumerate(bits_of(row, i * low, low))) for i in range(count)]
    ids = [(h << low) + rest for h, rest in zip(high, least, strict=True)]
    return ids, -(-(count * low + len(unary)) // 8)


def naive_top_k(rows: list[np.ndarray], t: int, vocabulary: int) -> dict[int, float]:
    """Probabilities of one token's entries; under -1, that of all others."""
    ids, codes, scales = (values[t] for values in rows)
    step, tail = scales.astype(np.float64)
    weights = [*np.exp(-step * codes.astype(np.float64)).tolist(), float(np.exp(tail))]
    return dict(zip([*elias_fano(ids, K, vocabulary)[0], -1], (w / sum(weights) for w in weights), strict=True))


def naive_draws(data: np.ndarray, vocabulary: int) -> dict[int, float]:
    """Weights of one token's draws, by id."""
    ends = [place for place, bit in enumerate(bits_of(data, 0, DRAWS)) if bit]
    ids, size = elias_fano(data[-(-DRAWS // 8) :], len(ends), vocabulary)
    weights = data[-(-DRAWS // 8) + size :].tobytes()
    largest, shares = np.frombuffer(weights[:4], "<f4")[0], np.frombuffer(weights[4:], "<f2")
    counts = np.diff([-1, *ends])
    return {i: float(n) * float(largest) * float(s) for i, n, s in zip(ids, counts, shares, strict=True)}


def naive_rows(cache: Cache, position: int, kind: str, t: int) -> dict[int, float]:
    """What the cache holds of one token, of either format: probabilities, or weights of all draws of an id."""
    rows, vocabulary = cache.states(position, cache.arrays_of(kind)), cache.manifest.teacher.vocab_size
    if len(rows) == 2:  # format 1
        ids, values = rows[0][t].tolist(), rows[1][t].astype(np.float64)
        if kind == "top_k":
            return dict(zip([*ids, -1], np.exp(values).tolist(), strict=True))
        return {i: float(values[rows[0][t] == i].sum()) for i in ids}
    if kind == "top_k":
        return naive_top_k(rows, t, vocabulary)
    return naive_draws(rows[0].data[rows[0].bounds[t] : rows[0].bounds[t + 1]], vocabulary)


def naive_loss(cache: Cache, logits_BSV: torch.Tensor, batch: Batch, kind: str, positions: Sequence[int]) -> float:
    """tau^2 times forward KL over stored events, or the cross-entropy under draws, in float64; one tokenizer."""
    total, where_BS = 0.0, batch.shared_predictions()
    for row, position in enumerate(positions):
        for t in where_BS[row].nonzero().flatten().tolist():
            log_q = (logits_BSV[row, t].double() / TEMPERATURE).log_softmax(-1).numpy()
            held = naive_rows(cache, position, kind, t)
            if kind == "top_k":
                rest = np.log(sum(np.exp(q) for i, q in enumerate(log_q) if i not in held))
                total += sum(v * (np.log(v) - (rest if i == -1 else log_q[i])) for i, v in held.items())
            else:
                total -= sum(weight * log_q[i] for i, weight in held.items())
    return TEMPERATURE**2 * total / int(where_BS.sum())


@pytest.mark.parametrize("kind", ["top_k", "sampled"])
@pytest.mark.parametrize("version", [1, 2])
def test_losses_are_those_of_the_bytes_on_disk(caches: dict[float, Cache], kind: str, version: int) -> None:
    cache, positions = (caches[0.8], POSITIONS) if version == 2 else (Cache(GOLDEN), [0, 1, 2])
    assert cache.manifest.version == version
    model, _, objective, batch = setting(cache, OBJECTIVES[kind], False, positions)
    value, _ = loss_and_gradients(model, objective, batch)
    with torch.no_grad():
        logits_BSV = forward(model, batch, objective.of_student)[StudentLogits()].whole()
    assert value == pytest.approx(naive_loss(cache, logits_BSV, batch, kind, positions), rel=1e-5)


def test_what_is_packed_is_small(caches: dict[float, Cache]) -> None:
    """A third of the plain numbers even with a tiny vocabulary; real ones are measured in the benchmarks."""
    cache = caches[1.0]
    tokens = int(cache.tokens.sum())
    sizes = dict.fromkeys(("top_k", "sampled"), 0)
    for kind in sizes:
        files = [f for f in Path(cache.path).glob(f"shards/*/states.zarr/{kind}/**/c/**/*") if f.is_file()]
        sizes[kind] = sum(file.stat().st_size for file in files)
    assert sizes["top_k"] / tokens < (8 * K + 4) / 3 and sizes["sampled"] / tokens < 8 * DRAWS / 3
