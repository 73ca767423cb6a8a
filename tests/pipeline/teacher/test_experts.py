"""A text alone goes to the experts that it went to in a batch: rounding is no fault then, and what is one still is."""

from pathlib import Path

import numpy as np
import pytest
import torch
import transformers as tf
from torch import Tensor, nn

from pipeline.teacher.check import TIES, TOLERANCE
from pipeline.teacher.experts import choosing, recorded
from pipeline.teacher.forward import find_body
from pipeline.teacher.run import Teacher
from schemas.configs.states import StatesConfig
from schemas.errors import ModelError
from tests.pipeline.teacher.rounding import rounding_by_shape
from tests.pipeline.teacher.tiny_models import MIXED, load, random_samples, run

STATES = StatesConfig(hidden=[2, "last"], mass=["last"], dtype="bfloat16", encoding="exact")
LENGTHS = (30, 30, 24, 17, 9, 5)
FAMILIES = ("mixtral", "gpt_oss", "deepseek_v3")


@pytest.fixture(scope="module", params=FAMILIES)
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp(request.param)
    MIXED[request.param](layers=8).save_pretrained(folder)
    return folder


def final_states(teacher: Teacher, ids: list[list[int]]) -> Tensor:
    """[T, d] of the first of these texts of one length, in float64."""
    with torch.inference_mode(), choosing():
        output = find_body(teacher._model)(input_ids=torch.tensor(ids), use_cache=False)
    found: Tensor = output.last_hidden_state[0].double()
    return found


def shares(found: Tensor, wanted: Tensor) -> Tensor:
    return torch.div((found - wanted).norm(dim=1), wanted.norm(dim=1))


def test_an_honest_teacher_in_bfloat16_passes_where_choosing_anew_would_not(folder: Path) -> None:
    samples = random_samples(lengths=LENGTHS)
    with rounding_by_shape():
        teacher = load(folder, STATES, dtype="bfloat16")
        assert teacher.chooses
        run(teacher, samples, 256)  # the longest and the shortest are proven against themselves, alone
        texts = [sample.token_ids.tolist() for sample in samples[:2]]
        with recorded(2) as choices:
            together = final_states(teacher, texts)
        free = shares(final_states(teacher, texts[:1]), together)
        with choices.followed(0, TOLERANCE["bfloat16"]):
            followed = shares(final_states(teacher, texts[:1]), together)
    assert followed.max() < TOLERANCE["bfloat16"]  # as in a model without experts
    assert free.max() > 3 * followed.max()
    if "deepseek" in folder.name:
        assert (free > TOLERANCE["bfloat16"]).double().mean() > 4 * TIES


def test_what_is_wrong_is_found_all_the_same(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    samples = random_samples(lengths=LENGTHS)
    body = type(find_body(tf.AutoModelForCausalLM.from_pretrained(folder)))
    forward = body.forward

    def leaking(self: nn.Module, input_ids: Tensor, **kwargs: object) -> object:
        output = forward(self, input_ids=input_ids, **kwargs)
        if input_ids.shape[0] > 2:  # more than loading tries
            output.last_hidden_state.add_(0.3 * output.last_hidden_state.roll(1, 0))
        return output

    monkeypatch.setattr(body, "forward", leaking)
    with rounding_by_shape():
        teacher = load(folder, STATES, dtype="bfloat16")
        with pytest.raises(ModelError, match=r"^sample 's0': hidden/8 .* depend on the padding or on the other texts"):
            run(teacher, samples, 256)


def test_a_router_that_looks_at_the_batch_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What follows it is what the batch gives, so that only the choice itself tells."""
    torch.manual_seed(0)
    MIXED["mixtral"]().save_pretrained(tmp_path)
    router = tf.models.mixtral.modeling_mixtral.MixtralTopKRouter
    forward = router.forward

    def looking(self: nn.Module, hidden: Tensor) -> object:
        rows = hidden.reshape(-1, hidden.shape[-1])
        return forward(self, rows - rows.mean(0) * (3 if len(rows) > 16 else 0))

    monkeypatch.setattr(router, "forward", looking)
    with pytest.raises(ModelError, match=r"^the experts that a text's tokens go to depend on the padding or"):
        load(tmp_path, STATES)


def test_a_pass_is_sent_where_another_went() -> None:
    """Two texts of four tokens; the second, then its beginning, alone."""
    torch.manual_seed(0)
    scores = torch.randn(8, 6)
    with recorded(2) as choices, choosing():
        _, ids = scores.topk(2)
    moved = scores[4:].clone()
    moved[1, ids[5, 0]] = moved[1].min() - 1  # of one token, far from a tie
    with choices.followed(1, 0.05), choosing():
        values, followed = moved.topk(2, dim=-1)
        others = torch.randn(4, 9).topk(2)[1]  # what was not there in the batch
    assert torch.equal(followed, ids[4:]) and torch.equal(values, moved.gather(1, ids[4:])) and others.shape == (4, 2)
    with choices.followed(1, 0.05), choosing():
        assert torch.equal(moved[:3].topk(2)[1], ids[4:7])
        assert scores.topk(2, dim=0)[1].shape == (2, 6)
    assert torch.equal(scores.topk(2)[1], ids)
    with choices.followed(1, 0.05), recorded(1) as again, choosing():
        moved.topk(2)
    with again.followed(0, 0.05), choosing():
        assert torch.equal(moved.topk(2)[1], ids[4:])  # what is recorded while another pass is followed is its
    with pytest.raises(ModelError, match="the experts"), choices.followed(1, 0.05), choosing():
        (-moved).topk(2)
    with recorded(1) as none, choosing():
        np.testing.assert_array_equal((scores + 1).argmax(1), scores.argmax(1))
    assert not none
