"""Room on a cluster, against every placement that Ray could choose."""

import itertools

import numpy as np
import pytest

from pipeline.cluster.placement import count_fitting, require_schedulable
from schemas.configs.extraction import WorkersConfig
from schemas.errors import ResourceError


def workers(count: int, cpus: float, annotator_cpus: float, gpus: float = 0) -> WorkersConfig:
    return WorkersConfig(count=count, cpus=cpus, gpus=gpus, annotator_cpus=annotator_cpus)


def can_wait_for_ever(asked: WorkersConfig, cpus: list[int]) -> bool:
    """By trying all: actors that find no place, or a placement of all that leaves no machine to annotation."""
    fitting = [
        each
        for each in itertools.product(range(asked.count + 1), repeat=len(cpus))
        if all(n * asked.cpus <= size + 1e-9 for n, size in zip(each, cpus, strict=True))
    ]
    if max(map(sum, fitting)) < asked.count:
        return True
    return any(
        all(size - n * asked.cpus < asked.annotator_cpus - 1e-9 for n, size in zip(each, cpus, strict=True))
        for each in fitting
        if sum(each) == asked.count
    )


def test_what_may_wait_for_ever_is_refused_and_nothing_else() -> None:
    random = np.random.default_rng(0)
    outcomes = []
    sizes = ([1, 2, 3, 4, 5], [0, 0.3, 0.5, 1], [0.1, 0.5, 1, 2])
    for _ in range(400):
        cpus = random.integers(1, 5, random.integers(1, 4)).tolist()
        asked = workers(*(random.choice(size).item() for size in sizes))
        try:
            require_schedulable(asked, [{"CPU": float(size)} for size in cpus])
            refused = False
        except ResourceError:
            refused = True
        assert refused == can_wait_for_ever(asked, cpus), (asked, cpus)
        outcomes.append(refused)
    assert 50 < sum(outcomes) < 350


def test_processors_of_two_machines_are_not_one_machines() -> None:
    with pytest.raises(ResourceError, match=r"2 machines with 2 CPUs .* more than 1 CPU, .* may leave no machine"):
        require_schedulable(workers(2, 0.5, 1), [{"CPU": 1.0}, {"CPU": 1.0}])
    require_schedulable(workers(2, 0.5, 0.5), [{"CPU": 1.0}, {"CPU": 1.0}, {"CPU": 1.0}])


def test_an_annotator_larger_than_every_machine_is_refused() -> None:
    with pytest.raises(ResourceError, match=r"with 5 CPUs free for annotation, .* lower workers\.annotator_cpus"):
        require_schedulable(workers(1, 0, 5), [{"CPU": 4.0}, {"CPU": 4.0}])


def test_how_many_have_room_now() -> None:
    machines = [{"CPU": 4.0, "GPU": 2.0}, {"CPU": 1.0}, {"CPU": 2.0, "GPU": 1.0}]
    assert [count_fitting(workers(count, 1.5, 1), machines) for count in (1, 3, 9)] == [1, 3, 3]
    assert count_fitting(workers(9, 0, 1, gpus=1), machines) == 3
    assert count_fitting(workers(9, 0, 1, gpus=0.5), machines) == 6
    assert count_fitting(workers(9, 5, 1), machines) == 0


def test_parts_of_a_gpu_are_of_one_gpu() -> None:
    machine = {"CPU": 16.0, "GPU": 2.0}
    require_schedulable(workers(2, 1, 1, gpus=0.6), [machine])
    with pytest.raises(ResourceError, match=r"3 teacher actors of 1 CPU and 0\.6 GPUs each on .* room for 2;"):
        require_schedulable(workers(3, 1, 1, gpus=0.6), [machine])
    require_schedulable(workers(6, 1, 1, gpus=1 / 3), [machine])
    with pytest.raises(ResourceError) as caught:
        require_schedulable(workers(1, 1, 1, gpus=1), [{"CPU": 16.0}])
    assert str(caught.value) == (
        "no room for 1 teacher actor of 1 CPU and 1 GPU on this Ray of 1 machine with 16 CPUs and 0 GPUs in all, which "
        "has room for 0; lower workers.count, workers.cpus or workers.gpus, or set workers.elastic where an autoscaler "
        "adds machines"
    )
