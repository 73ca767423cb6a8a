"""Makers are found by the kinds of the arrays that are wanted, each built once with its own."""

from typing import Any

import numpy as np
import pytest
import torch

from pipeline.teacher.maker import MAKERS, BatchStates, Maker, build_makers
from schemas.cache.arrays import KINDS, ArrayRecord
from schemas.cache.kinds.pooled import PooledRecord
from schemas.cache.teacher import TeacherRecord
from schemas.errors import ConfigError

TEACHER = TeacherRecord(model="m", kind="causal", num_layers=3, hidden_size=4, vocab_size=8, max_tokens=16)


def array(kind: str, layer: int, width: int | None = 4) -> ArrayRecord:
    return ArrayRecord(kind=kind, layer=layer, width=width, dtype="float32")


def test_every_kind_has_a_maker() -> None:
    assert MAKERS.keys() == KINDS.keys()


def test_each_maker_gets_its_own_arrays_and_record() -> None:
    arrays = [array("hidden", 0), array("hidden", 3), array("mass", 2, None), array("pooled", 1)]
    record = PooledRecord(pooling="mean", normalise=False, layer=1)
    makers: list[Any] = list(build_makers(arrays, {"pooled": record}))
    assert [(maker.name, maker.arrays) for maker in makers] == [
        ("hidden", arrays[:2]),
        ("mass", arrays[2:3]),
        ("pooled", arrays[3:]),
    ]
    assert [maker.record for maker in makers] == [None, None, record]
    assert [maker.hidden_layers for maker in makers] == [{0, 3}, set(), {1}]
    assert [maker.mass_layers for maker in makers] == [set(), {2}, set()]


def test_a_maker_asks_for_no_layer_unless_it_says_so() -> None:
    assert Maker([], None).hidden_layers == Maker([], None).mass_layers == frozenset()


def test_what_is_made_is_stored_as_it_is_unless_a_maker_packs_it() -> None:
    arrays = [array("hidden", 0), array("hidden", 3)]
    (maker,) = build_makers(arrays, {})
    assert maker.makes == arrays
    made = {path: np.zeros((2, 4), np.float32) for path in ("hidden/0", "hidden/3", "mass/2")}
    packed, lost = maker.pack(made, TEACHER)
    assert list(packed) == ["hidden/0", "hidden/3"] and all(packed[path] is made[path] for path in packed)
    assert lost == {}


def test_a_kind_that_nobody_makes_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(MAKERS.__dict__, "_found", {})
    wanted = (
        r"^states\.hidden: its package says how it is stored and not how it is made; .* stillroom\.state_makers beside"
    )
    with pytest.raises(ConfigError, match=wanted):
        list(build_makers([array("hidden", 0)], {}))


def test_real_rows_are_taken_in_order() -> None:
    states = BatchStates({}, {}, torch.tensor([[True, True], [True, False]]), torch.tensor([0, 1, 2]))
    assert states.real(torch.arange(8).reshape(2, 2, 2)).tolist() == [[0, 1], [2, 3], [4, 5]]
    assert states.real(torch.arange(4).reshape(2, 2)).tolist() == [0, 1, 2]
