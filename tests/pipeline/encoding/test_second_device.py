"""Codecs where the teacher is: learnt and used on one device, whichever that is, with no tensor in the wrong place."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.encoding.calibrate import Goal, calibrate_final, calibrate_inner
from pipeline.encoding.encoder import Encoder
from pipeline.encoding.head import Head
from pipeline.encoding.unit import UnitEncoder
from schemas.cache.manifest import read_manifest
from schemas.cache.ragged import RaggedRows
from schemas.models.logits import LogitTransform
from tests.caches import encoded_cache
from tests.pipeline.encoding.layers import WIDTH, layer
from tests.second_device import second_device

CPU = torch.device("cpu")


def learn_inner(device: torch.device) -> Encoder:
    return calibrate_inner(layer(900).to(device), layer(600, seed=1).to(device), Goal(0.15))


def learn_final(device: torch.device) -> Encoder:
    weight = torch.from_numpy(np.random.default_rng(3).standard_normal((100, WIDTH)) / 8).float()
    head = Head(weight.to(device), None, LogitTransform())
    return calibrate_final(layer(900).to(device), layer(600, seed=1).to(device), head, Goal(0.1))


@pytest.mark.parametrize("learn", [learn_inner, learn_final])
def test_a_codec_is_learnt_on_the_device_of_its_rows(learn: Callable[[torch.device], Encoder]) -> None:
    here = learn(CPU)
    with second_device() as there:
        learnt = learn(there)
        assert {learnt.tables.mean_d.device, learnt.tables.codebooks.device, learnt.weight_k.device} == {there}
        elsewhere = learnt.to(CPU)
    rows, others = (encoder.encode(layer(600, seed=2)) for encoder in (here, elsewhere))
    assert len(others.data) == pytest.approx(len(rows.data), rel=0.01)
    assert float(others.error_N.mean()) == pytest.approx(float(rows.error_N.mean()), rel=0.01)


def test_a_unit_is_encoded_on_the_teachers_device(tmp_path: Path) -> None:
    cache = encoded_cache(tmp_path)
    manifest = read_manifest(cache)
    wide = torch.cat([layer(700), layer(700, seed=1)[:, :8]], 1).bfloat16().view(torch.uint16).numpy()
    arrays = {"hidden/1": wide, "hidden/3": wide}
    here, of_here = UnitEncoder(cache, manifest, None, CPU).encode(arrays)
    encode: Any = UnitEncoder.encode
    with second_device() as there:  # without torch's inference mode, which knows no tensors of other kinds
        found, costs = encode.__wrapped__(UnitEncoder(cache, manifest, None, there), arrays)
    assert costs == of_here
    for path in arrays:
        one, other = here[path], found[path]
        assert isinstance(one, RaggedRows) and isinstance(other, RaggedRows)
        assert np.array_equal(one.data, other.data) and np.array_equal(one.sizes, other.sizes)


def test_what_lies_elsewhere_is_noticed() -> None:
    with second_device() as there, pytest.raises(RuntimeError, match="tensors on two devices"):
        torch.ones(2, 3).to(there) @ torch.ones(3, 2)
