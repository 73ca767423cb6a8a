"""A unit's arrays as they lie on disk."""

from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.encoding.unit import UnitEncoder
from schemas.cache.manifest import read_manifest
from schemas.cache.ragged import RaggedRows
from schemas.models.state_decoder import load_decoders
from tests.caches import encoded_cache
from tests.pipeline.encoding.layers import layer

CPU = torch.device("cpu")


def states(rows: int) -> np.ndarray:
    wide = torch.cat([layer(rows), layer(rows, seed=1)[:, :8]], 1).bfloat16()
    return wide.view(torch.uint16).numpy()


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return encoded_cache(tmp_path_factory.mktemp("encoded"))


def test_encoded_arrays_take_the_place_of_raw_ones_and_others_stay(cache: Path) -> None:
    manifest, mass = read_manifest(cache), np.ones(700, np.float32)
    arrays = {"hidden/1": states(700), "hidden/3": states(700), "mass/3": mass}
    found, costs = UnitEncoder(cache, manifest, None, CPU).encode(arrays)
    assert found["mass/3"] is mass and costs.keys() == {"hidden/1", "hidden/3"}
    decoder = load_decoders(cache, manifest)["hidden", 1]
    rows = found["hidden/1"]
    assert isinstance(rows, RaggedRows) and len(rows) == 700
    decoded = decoder.states(torch.from_numpy(rows.data), torch.from_numpy(rows.sizes.astype(np.int64)))
    assert decoded.shape == (700, 32) and decoded.isfinite().all()


def test_the_same_rows_give_the_same_bytes_and_no_rows_none(cache: Path) -> None:
    manifest = read_manifest(cache)
    arrays = {"hidden/1": states(300), "hidden/3": states(300)}
    first, second = (UnitEncoder(cache, manifest, None, CPU).encode(arrays)[0]["hidden/3"] for _ in range(2))
    assert isinstance(first, RaggedRows) and isinstance(second, RaggedRows)
    assert np.array_equal(first.data, second.data) and np.array_equal(first.sizes, second.sizes)
    none, costs = UnitEncoder(cache, manifest, None, CPU).encode({path: rows[:0] for path, rows in arrays.items()})
    assert len(none["hidden/1"]) == 0 and costs["hidden/1"].rows == 0
