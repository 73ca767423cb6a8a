"""An extraction on a real cluster of two nodes."""

import json
import os
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest
import ray

from pipeline.cluster.extract import extract
from schemas.errors import ResourceError
from tests.caches import build_cache
from tests.commands import ROOT
from tests.pipeline.cluster.running import (
    config,
    descendants,
    kill_all,
    make_inputs,
    num_shards,
    second_node,
    shard_files,
    teacher_processes_from_now_on,
    when,
)
from tests.rays import OneRay

pytestmark = pytest.mark.timeout(600)


def test_two_nodes_and_the_death_of_one_change_no_byte(one_ray: OneRay, tmp_path: Path) -> None:
    """Each has room for one actor. That of the first is held up while the other works, whose node is then killed."""
    folder = make_inputs(tmp_path)
    cache, ours = folder / "nodes", teacher_processes_from_now_on()
    address, environment = one_ray.address(), os.environ | {"PYTHONPATH": str(ROOT)}
    with second_node(address, environment, lambda: sum(each["Alive"] for each in ray.nodes()) == 2) as node:

        def there() -> list[psutil.Process]:
            return descendants(node.pid, "ray::TeacherActor")

        def here() -> list[psutil.Process]:
            return [process for process in ours() if process not in there()]

        def hold_up_one_and_kill_the_others_node() -> None:
            (held,) = here()
            held.suspend()
            before = num_shards(cache)
            when(lambda: num_shards(cache) >= before + 3, lambda: kill_all(node)).join()
            held.resume()

        watcher = when(lambda: bool(here()) and num_shards(cache) >= 1, hold_up_one_and_kill_the_others_node)
        result = extract(config(folder, "nodes", workers={"count": 2, "cpus": 1.5, "annotator_cpus": 0.25}))
        watcher.join()
    assert result.new_units == result.units
    lines = [json.loads(line) for line in (cache / "extraction.jsonl").read_text().splitlines()]
    assert any(line["event"] == "lost" for line in lines)
    assert {line["worker"] for line in lines if line["event"] == "unit"} == {0, 1}
    assert shard_files(cache) == shard_files(build_cache(config(folder, "here")))


@pytest.mark.long
def test_a_machine_that_comes_while_it_works_takes_its_part(one_ray: OneRay, tmp_path: Path) -> None:
    """There is room for one actor of two. It is held up until the other has worked, on the machine that came."""
    folder = make_inputs(tmp_path)
    cache, ours = folder / "grown", teacher_processes_from_now_on()
    address, environment = one_ray.address(), os.environ | {"PYTHONPATH": str(ROOT)}
    workers = {"count": 2, "cpus": 1.5, "annotator_cpus": 0.25}
    with pytest.raises(ResourceError, match=r"no room for 2 teacher actors of 1\.5 CPUs"):
        extract(config(folder, "grown", workers=workers))
    with ExitStack() as machines:

        def hold_up_the_one_until_the_other_has_worked() -> None:
            (held,) = ours()
            held.suspend()
            before = num_shards(cache)
            come = second_node(address, environment, lambda: sum(each["Alive"] for each in ray.nodes()) == 2)
            machines.enter_context(come)
            when(lambda: num_shards(cache) >= before + 3, held.resume).join()

        watcher = when(lambda: num_shards(cache) >= 1, hold_up_the_one_until_the_other_has_worked)
        result = extract(config(folder, "grown", workers=workers | {"elastic": True}))
        watcher.join()
    assert result.new_units == result.units
    lines = [json.loads(line) for line in (cache / "extraction.jsonl").read_text().splitlines()]
    assert {line["worker"] for line in lines if line["event"] == "unit"} == {0, 1}
    assert not any(line["event"] == "lost" for line in lines)
    assert shard_files(cache) == shard_files(build_cache(config(folder, "here")))
