"""Offline equals online: every objective reads the same from a cache as from the teacher run live in the same step.

Online has nothing of the cache but its texts: states, masses, unembedding and embeddings are the live model's own.
"""

from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from pipeline.work.annotate import annotate_unit
from schemas.cache.reader import Cache
from schemas.models.teacher_head import load_teacher_head
from tests import several_targets
from tests.caches import build_cache, extraction, write_corpus
from tests.tiny import tiny_llama, tiny_tokenizer
from tests.trainer.compared import BY_LOGITS, OBJECTIVES, ONE_TOKENIZER
from tests.trainer.live import POSITIONS, assert_equal, build, live_teacher, loss_and_gradients, online, setting
from tests.trainer.objectives.answers import whole_logits
from tests.trainer.objectives.given import GivenContext
from tests.trainer.objectives.world import counts_of
from trainer.alignment.student_text import StudentTokenizer
from trainer.alignment.vocabulary import share_vocabulary
from trainer.data.loader import BatchBuilder
from trainer.objectives.context import StudentSize
from trainer.student.load import forward, prepare


@pytest.fixture(scope="module", params=[annotate_unit, several_targets.annotate], ids=["one target", "several"])
def cache(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Cache:
    """Texts of a prompt and a response, and texts with several targets."""
    folder = tmp_path_factory.mktemp("parity")
    tiny_llama(folder / "teacher", tiny_tokenizer(folder / "teacher", "bpe"))
    tiny_tokenizer(folder / "other", "bytelevel", vocab=320)
    corpus = write_corpus(folder / "corpus.jsonl")
    config = extraction(folder / "cache", folder / "teacher", corpus, teacher={"keep_embeddings": True})
    return Cache(build_cache(config, request.param))


@pytest.fixture(scope="module")
def teacher(cache: Cache) -> Any:
    return live_teacher(cache)


@pytest.mark.parametrize(
    ("name", "cross"),
    [(name, cross) for name in OBJECTIVES for cross in (False, True) if not (cross and name.startswith(ONE_TOKENIZER))],
)
def test_cached_states_give_the_live_loss(cache: Cache, teacher: Any, name: str, cross: bool) -> None:
    model, context, objective, batch = setting(cache, OBJECTIVES[name], cross)
    texts = [cache.sample(position).text for position in POSITIONS]
    live_pair, live_batch = online(cache, teacher, context, batch, name.startswith(BY_LOGITS), texts)
    live_objective = build(OBJECTIVES[name], live_pair)
    live_objective.load_state_dict(objective.state_dict())
    learners = 1 + bool(list(objective.parameters()))
    offline = loss_and_gradients(model, objective, batch)
    assert_equal(offline, loss_and_gradients(model, live_objective, live_batch), learners)


def test_cached_logits_are_the_teachers(cache: Cache, teacher: Any) -> None:
    """KD against the teacher's own logits, never touched by our unembedding, in plain torch."""
    model, _, objective, batch = setting(cache, OBJECTIVES["kd"], False)
    tokenizer = AutoTokenizer.from_pretrained(cache.path.parent / "teacher")
    states = forward(model, batch, objective.of_student)
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
            if place == length or any(start < ends[place] <= stop for start, stop in sample.targets.tolist()):
                target = (logits[place - 1].double() / 2).log_softmax(-1)
                guess = (whole_logits(states)[row, place - 1].double() / 2).log_softmax(-1)
                total += 4 * float((target.exp() * (target - guess)).sum().detach())
                terms += 1
    counts = counts_of(batch)
    assert counts["pair"] == terms
    assert objective(states, batch, counts)[0].item() == pytest.approx(total / terms, rel=1e-5)


def test_a_teacher_that_is_its_own_student_has_nothing_to_learn(cache: Cache) -> None:
    """Same states, same masses, same logits: geometry, span logits and structure agree, end of sequence or not."""
    tokenizer = AutoTokenizer.from_pretrained(cache.path / "teacher")
    model = AutoModelForCausalLM.from_pretrained(cache.path.parent / "teacher", dtype=torch.float32).eval()
    losses: list[dict[str, Any]] = [{"loss": "sra", "cos": 0}, {"loss": "kd"}, {"loss": "mta", "hid": 0}]
    context = GivenContext(
        manifest=cache.manifest,
        head=load_teacher_head(cache.path, cache.manifest),
        student=StudentSize(3, 32),
        vocabulary=share_vocabulary(tokenizer, tokenizer),
        same_tokenizer=True,
    )
    objective = build(losses, context)
    prepare(model, objective.of_student)
    for append_eos in (True, False):
        batch = BatchBuilder(cache, StudentTokenizer(tokenizer, 64, append_eos), objective.of_batch)[POSITIONS]
        counts = counts_of(batch)
        _, parts = objective(forward(model, batch, objective.of_student), batch, counts)
        for name in ("sra/geo", "sra/span_kd", "kd/kl", "mta/dsa"):
            assert abs(parts[name].item()) < 1e-5, (append_eos, name)
