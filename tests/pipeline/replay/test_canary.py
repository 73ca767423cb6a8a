"""A worker writes no shard unless it holds what the teacher gives for a sample alone, whatever its kind and codec."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.encoding.unit import UnitEncoder
from pipeline.work.worker import TeacherWorker
from schemas.cache.sections import Section
from schemas.errors import ModelError
from tests.caches import extract_here
from tests.pipeline.replay.faults import config_of, make_material

STATES: dict[str, Any] = {
    "hidden": [1, 3],
    "mass": [3],
    "top_k": {"k": 4},
    "sampled": {"draws": 6},
    "dtype": "bfloat16",
    "encoding": "small",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_material(tmp_path_factory.mktemp("canary"))


Stored = dict[str, Any]
FAULTS: dict[str, Callable[[Stored], Stored]] = {
    "hidden/1": lambda stored: stored | {"hidden/1": stored["hidden/3"]},
    "mass/3": lambda stored: stored | {"mass/3": np.roll(stored["mass/3"], 5)},
    "top_k": lambda stored: stored | {"top_k/ids": np.roll(stored["top_k/ids"], 5, 0)},
}


@pytest.mark.parametrize("path", FAULTS)
def test_what_is_stored_wrongly_is_found_before_it_is_written(folder: Path, path: str) -> None:
    config = config_of(folder, path.replace("/", "-"), STATES)

    def prepare(worker: TeacherWorker) -> None:
        encode = worker._encode

        def wrongly(section: Section, packed: Any) -> Any:
            stored, costs = encode(section, packed)
            return FAULTS[path](stored), costs

        worker._encode = wrongly  # type: ignore[method-assign]

    with pytest.raises(ModelError, match=rf"^sample 's\d+': {path}, as it would be stored, is off by"):
        extract_here(config, prepare)
    assert not any((config.output / "shards").glob("*"))


def test_only_the_first_unit_with_samples_is_proven(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen, encode = list[int](), UnitEncoder.encode

    def count(self: UnitEncoder, arrays: Any) -> Any:
        seen.append(len(arrays["mass/3"]))
        return encode(self, arrays)

    monkeypatch.setattr(UnitEncoder, "encode", count)
    _, reports = extract_here(config_of(folder, "counted", STATES, batching={"unit_tokens": 200}))
    assert len(reports) > 2 and len(seen) == len(reports) + 2
    assert sorted(seen[1:3]) == [min(seen), max(seen[1:3])] and max(seen[1:3]) < seen[0]
