"""One sample of a batch against stored rows: the same are the same, others and missing ones are not."""

from pathlib import Path

import numpy as np
import pytest

from pipeline.encoding.unit import UnitEncoder
from pipeline.replay.compare import NOISE, Comparison
from pipeline.replay.samples import SampleReader
from pipeline.teacher.run import Teacher
from pipeline.teacher.wanted import WantedStates
from schemas.cache.reader import Cache
from tests.caches import build_cache
from tests.pipeline.replay.faults import config_of, make_material

STATES = {"hidden": [3], "mass": [1], "top_k": {"k": 4}, "sampled": {"draws": 5}, "dtype": "float32", "rows": "targets"}


def test_a_batch_gives_each_of_its_samples_its_own_rows(tmp_path: Path) -> None:
    config = config_of(make_material(tmp_path), "cache", STATES)
    cache = Cache(build_cache(config))
    manifest = cache.manifest
    teacher = Teacher(config.teacher, WantedStates.of_cache(manifest), tmp_path / "teacher", None)
    encoder = UnitEncoder(cache.path, manifest, None, teacher.device)
    comparison = Comparison(cache.path, manifest, teacher, encoder, NOISE["float32"])
    batch = SampleReader(cache, config.teacher).read([0, 1, 2])

    def stored(position: int) -> dict[str, np.ndarray]:
        rows = cache.states(position, manifest.arrays)
        return {array.path: values for array, values in zip(manifest.arrays, rows, strict=True)}

    for number in range(3):
        gaps = comparison.compare(batch, number, stored(number)).gaps
        assert set(gaps) == {"hidden/3", "mass/1", "top_k", "sampled"}
        assert all(gap.found < gap.allowed / 10 for gap in gaps.values())
    assert all(gap.is_wide for gap in comparison.compare(batch, 1, stored(2)).gaps.values())
    assert comparison.compare(batch[:1], 0, stored(0)).kl_N is None  # nothing is encoded


@pytest.mark.parametrize("dtype", NOISE)
def test_what_is_allowed_is_less_than_one_in_ten(dtype: str) -> None:
    assert NOISE[dtype] < 0.1
