"""Offline equals online: every objective reads the same from a cache as from the teacher run live in the same step."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch
from pydantic import TypeAdapter
from transformers import AutoModelForCausalLM, AutoTokenizer

from schemas.losses import LossConfig
from schemas.training import StudentConfig
from tests.caches import build_cache, extraction, write_corpus
from tests.tiny import tiny_llama, tiny_tokenizer
from trainer.batch import Batch
from trainer.cache import Cache
from trainer.loader import BatchBuilder, StudentEncoder
from trainer.objectives.base import Pair
from trainer.objectives.objective import Objective, build_objective
from trainer.student import forward, load_student, prepare
from trainer.teacher_head import load_teacher_head
from trainer.vocabulary import same_tokenizer, share_vocabulary

OBJECTIVES: dict[str, list[dict[str, Any]]] = {
    "ce": [{"loss": "ce"}],
    "kd": [{"loss": "kd", "temperature": 2.0}],
    "kd, reverse": [{"loss": "kd", "divergence": "reverse_kl"}],
    "kd, js": [{"loss": "kd", "divergence": "js", "beta": 0.3, "temperature": 2.0}],
    "kd, total variation": [{"loss": "kd", "divergence": "total_variation"}],
    "kd, skewed": [
        {"loss": "kd", "divergence": "skew_forward_kl"},
        {"loss": "kd", "divergence": "skew_reverse_kl", "weight": 0.5},
    ],
    "kd, adaptive": [{"loss": "kd", "divergence": "adaptive_kl"}],
    "sra": [{"loss": "sra"}],
    "sra, inner layer": [{"loss": "sra", "teacher_layer": 2, "student_layer": 1, "mass_exponent": 0.5}],
    "sra, words": [{"loss": "sra", "spans": "word"}],
    "sra, phrases": [{"loss": "sra", "spans": "phrase", "mass_exponent": 0.5}],
    "mta": [{"loss": "mta"}],
    "mta, one layer of words": [{"loss": "mta", "student_layers": ["last"], "word_layers": 1}],
    "mta, words": [{"loss": "mta", "word_layers": 2, "student_layers": {"top": 2}, "hid_pairs": "word"}],
    "all": [{"loss": "ce", "weight": 0.3}, {"loss": "sra"}, {"loss": "mta"}],
}
POSITIONS = [0, 5, 11, 30, 51, 54]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    folder = tmp_path_factory.mktemp("parity")
    tiny_llama(folder / "teacher", tiny_tokenizer(folder / "teacher", "bpe"))
    tiny_tokenizer(folder / "other", "bytelevel", vocab=320)
    return Cache(build_cache(extraction(folder / "cache", folder / "teacher", write_corpus(folder / "corpus.jsonl"))))


def setting(cache: Cache, losses: Sequence[dict[str, Any]], cross: bool) -> tuple[Any, Objective, Batch]:
    """Student, objective and one cached batch."""
    teacher = AutoTokenizer.from_pretrained(cache.path / "teacher")
    tokenizer = AutoTokenizer.from_pretrained(cache.path.parent / "other") if cross else teacher
    torch.manual_seed(1)
    architecture = {"model_type": "llama", "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 3}
    config = StudentConfig(architecture=architecture | {"num_attention_heads": 2}, tokenizer="teacher", max_tokens=64)
    model = load_student(config, tokenizer)
    pair = Pair(
        manifest=cache.manifest,
        head=load_teacher_head(cache.path, cache.manifest),
        student_layers=3,
        student_width=16,
        vocabulary=share_vocabulary(tokenizer, teacher),
        same_tokenizer=same_tokenizer(tokenizer, teacher),
    )
    assert pair.same_tokenizer is not cross
    objective = build_objective([TypeAdapter(LossConfig).validate_python(loss) for loss in losses], pair)
    prepare(model, objective.needs)
    builder = BatchBuilder(cache, StudentEncoder(tokenizer, 64, append_eos=True), objective.needs)
    return model, objective, builder[POSITIONS]


def live(cache: Cache, batch: Batch) -> Batch:
    """The same batch with states of the teacher as transformers computes them now, from text, with eager attention."""
    folder = cache.path.parent / "teacher"
    teacher = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager", dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder, pad_token="<pad>", padding_side="right")
    encoded = tokenizer([cache.sample(position).text for position in POSITIONS], return_tensors="pt", padding=True)
    with torch.no_grad():
        output = teacher(**encoded, output_hidden_states=True, output_attentions=True)
    mask = encoded["attention_mask"].bool()
    last = mask.sum(1) - 1
    rows = torch.arange(len(last))
    mass = {layer: output.attentions[layer - 1][rows, :, last].sum(1) * mask for layer in (1, 2, 3)}
    return replace(
        batch,
        teacher_mask_BT=mask,
        teacher_hidden={layer: output.hidden_states[layer] * mask[..., None] for layer in batch.teacher_hidden},
        teacher_mass={layer: mass[layer] / mass[layer].sum(1, keepdim=True) for layer in batch.teacher_mass},
    )


def loss_and_gradient(model: Any, objective: Objective, batch: Batch) -> tuple[float, torch.Tensor]:
    model.zero_grad()
    counts = {unit: batch.count(unit) for unit in ("token", "sample")}
    if objective.needs.pairs:
        counts["pair"] = batch.count("pair")
    total, _ = objective(forward(model, batch, objective.needs), batch, counts)
    total.backward()
    return total.item(), torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


@pytest.mark.parametrize(
    ("name", "cross"),
    [(name, cross) for name in OBJECTIVES for cross in (False, True) if not (name.startswith("kd") and cross)],
)
def test_cached_states_give_the_live_loss(cache: Cache, name: str, cross: bool) -> None:
    model, objective, batch = setting(cache, OBJECTIVES[name], cross)
    offline, offline_gradient = loss_and_gradient(model, objective, batch)
    online, online_gradient = loss_and_gradient(model, objective, live(cache, batch))
    assert offline == pytest.approx(online, rel=1e-5)
    assert (offline_gradient - online_gradient).norm() <= 1e-5 * online_gradient.norm()
    assert online_gradient.norm() > 1e-3


def test_cached_logits_are_the_teachers(cache: Cache) -> None:
    """KD against the teacher's own logits, never touched by our unembedding, in plain torch."""
    model, objective, batch = setting(cache, OBJECTIVES["kd"], False)
    folder = cache.path.parent / "teacher"
    teacher = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    states = forward(model, batch, objective.needs)
    total, terms = 0.0, 0
    for row, position in enumerate(POSITIONS):
        sample = cache.sample(position)
        encoded = tokenizer(sample.text, return_tensors="pt", return_offsets_mapping=True)
        ends = encoded.pop("offset_mapping")[0, :, 1]
        with torch.no_grad():
            logits = teacher(**encoded).logits[0]
        length = min(len(ends), 64)
        with_eos = min(length + (not sample.truncated), 64)  # the end of sequence is predicted by the last text token
        for place in range(1, with_eos):
            if place == length or ends[place] > sample.prompt_end:
                target = (logits[place - 1].double() / 2).log_softmax(-1)
                guess = (states.logits_BSV[row, place - 1].double() / 2).log_softmax(-1)
                total += 4 * float((target.exp() * (target - guess)).sum().detach())
                terms += 1
    counts = {unit: batch.count(unit) for unit in ("token", "pair", "sample")}
    assert counts["pair"] == terms
    assert objective(states, batch, counts)[0].item() == pytest.approx(total / terms, rel=1e-5)


def test_a_teacher_that_is_its_own_student_has_nothing_to_learn(cache: Cache) -> None:
    """Same states, same masses, same logits: geometry, span logits and structure agree, end of sequence or not."""
    tokenizer = AutoTokenizer.from_pretrained(cache.path / "teacher")
    model = AutoModelForCausalLM.from_pretrained(cache.path.parent / "teacher", dtype=torch.float32).eval()
    losses = [{"loss": "sra", "cos": 0}, {"loss": "kd"}, {"loss": "mta", "hid": 0}]
    pair = Pair(
        manifest=cache.manifest,
        head=load_teacher_head(cache.path, cache.manifest),
        student_layers=3,
        student_width=32,
        vocabulary=share_vocabulary(tokenizer, tokenizer),
        same_tokenizer=True,
    )
    objective = build_objective([TypeAdapter(LossConfig).validate_python(loss) for loss in losses], pair)
    prepare(model, objective.needs)
    for append_eos in (True, False):
        batch = BatchBuilder(cache, StudentEncoder(tokenizer, 64, append_eos), objective.needs)[POSITIONS]
        counts = {unit: batch.count(unit) for unit in ("token", "pair", "sample")}
        _, parts = objective(forward(model, batch, objective.needs), batch, counts)
        for name in ("sra/geo", "sra/span_kd", "kd/kl", "mta/dsa"):
            assert abs(parts[name].item()) < 1e-5, (append_eos, name)
