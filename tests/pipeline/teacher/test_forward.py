"""One pass of a teacher gives transformers' own hidden states, of the layers asked for, and leaves no hook."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from pipeline.teacher.forward import TeacherForward, find_body, pad
from schemas.cache.teacher import TeacherRecord
from schemas.errors import ModelError
from schemas.models.token_mass import enable_token_mass
from tests.pipeline.teacher.tiny_models import CAUSAL

RECORD = TeacherRecord(model="m", kind="causal", num_layers=3, hidden_size=32, vocab_size=61, max_tokens=16)


def model(name: str) -> Any:
    torch.manual_seed(0)
    return CAUSAL[name]().eval()


def test_padding_stands_on_the_right() -> None:
    ids, mask = pad([np.array([5, 6, 7], np.int32), np.array([8], np.int32)])
    assert ids.tolist() == [[5, 6, 7], [8, 0, 0]] and ids.dtype == torch.long
    assert mask.tolist() == [[True, True, True], [True, False, False]]


@pytest.mark.parametrize("name", ["llama", "gpt2", "opt"])
def test_layers_are_transformers_own(name: str) -> None:
    teacher = model(name)
    ids, mask = pad([np.arange(3, 12), np.arange(20, 25)])
    hidden, mass, _ = TeacherForward(teacher, RECORD, [0, 2], [])(ids, mask)
    assert sorted(hidden) == [0, 2, 3] and mass == {}
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in teacher.modules())
    with torch.no_grad():
        wanted = teacher(input_ids=ids, output_hidden_states=True).hidden_states
    for layer, states in hidden.items():
        torch.testing.assert_close(states[mask], wanted[layer][mask], rtol=1e-5, atol=1e-5)


def test_masses_sum_to_one_over_real_tokens() -> None:
    ids, mask = pad([np.arange(3, 12), np.arange(20, 25)])
    teacher = model("llama")
    enable_token_mass(teacher)
    _, mass, _ = TeacherForward(teacher, RECORD, [], [1, 3])(ids, mask)
    assert sorted(mass) == [1, 3]
    for values in mass.values():
        torch.testing.assert_close(values.sum(1), torch.ones(2))
        assert not values[~mask].any()


def test_states_of_another_shape_are_refused() -> None:
    wide = RECORD.model_copy(update={"hidden_size": 16})
    ids, mask = pad([np.arange(3, 7)])
    with pytest.raises(
        ModelError, match=r"layer 1 of LlamaForCausalLM has the shape \[1, 4, 32\] where \[1, 4, 16\] is needed"
    ):
        TeacherForward(model("llama"), wide, [1], [])(ids, mask)


def test_a_block_that_is_not_run_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    teacher = model("llama")
    blocks = [*teacher.model.layers, nn.Linear(1, 1)]
    monkeypatch.setattr("pipeline.teacher.forward.find_blocks", lambda model: blocks)
    ids, mask = pad([np.arange(3, 7)])
    deep = RECORD.model_copy(update={"num_layers": 5})
    with pytest.raises(ModelError, match=r"^LlamaForCausalLM does not run its block 4; choose another layer$"):
        TeacherForward(teacher, deep, [4], [])(ids, mask)


def test_a_body_is_what_stands_before_the_head() -> None:
    teacher = model("llama")
    assert find_body(teacher) is teacher.model
    bare: Any = nn.Linear(1, 1)
    bare.base_model = bare
    with pytest.raises(ModelError, match=r"^Linear has no body apart from its head; it cannot be a teacher$"):
        find_body(bare)
