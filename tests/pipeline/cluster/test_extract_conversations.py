"""Whole extractions of conversations on a real Ray: no byte depends on workers or deaths."""

import os
from pathlib import Path

import pytest

from pipeline.cluster.extract import extract
from schemas.cache.reader import Cache
from schemas.errors import ResourceError
from tests.caches import build_cache
from tests.pipeline.cluster.running import (
    conversations_config,
    descendants,
    make_conversations,
    num_shards,
    shard_files,
    when,
)
from tests.rays import OneRay

pytestmark = pytest.mark.timeout(600)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_conversations(tmp_path_factory.mktemp("conversations"))


@pytest.fixture(scope="module")
def whole(folder: Path) -> Path:
    """Without any Ray."""
    return build_cache(conversations_config(folder, "whole"))


@pytest.fixture
def ray_here(one_ray: OneRay) -> None:
    one_ray.address()


def test_the_cache_holds_turns_and_structure(whole: Path) -> None:
    cache = Cache(whole)
    samples = [cache.sample(position) for position in range(len(cache))]
    assert all(sample.turns and len(sample.targets) for sample in samples)
    parts = {turn.part for sample in samples for turn in sample.turns}
    assert parts == {"content", "reasoning", "tool_calls", "end"}
    assert any(sample.structure for sample in samples) and any(sample.truncated for sample in samples)


@pytest.mark.long
def test_two_workers_a_killed_one_and_a_stopped_run_change_no_byte(ray_here: None, whole: Path, folder: Path) -> None:
    cache = folder / "killed"
    earlier = {process.pid for process in descendants(os.getpid(), "ray::TeacherActor")}

    def kill() -> None:
        (worker,) = (one for one in descendants(os.getpid(), "ray::TeacherActor") if one.pid not in earlier)
        worker.kill()

    watcher = when(lambda: num_shards(cache) >= 3, kill)
    with pytest.raises(ResourceError, match=r"^unit \d+: its worker died 1 times"):
        extract(conversations_config(folder, "killed", workers={"retries": 0}))
    watcher.join()
    kept = num_shards(cache)
    assert 3 <= kept < num_shards(whole)
    result = extract(conversations_config(folder, "killed", workers={"count": 2}))
    assert result.new_units == result.units - kept > 5
    assert shard_files(cache) == shard_files(whole)
