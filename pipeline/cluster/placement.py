"""Room for teacher actors and annotation on a cluster's machines, however Ray may place them.

Ray lets whatever it cannot place wait for ever, so this asks before. Machines are as `ray.nodes` describes them.
"""

from collections.abc import Mapping, Sequence

from schemas.configs.extraction import WorkersConfig
from schemas.errors import ResourceError
from schemas.shown import counted

TEN_THOUSANDTHS = 10_000  # Ray counts so, and in whole numbers; so sums are exact here, too


Machine = Mapping[str, float]  # its resources by name


def require_room(cpus: float, gpus: float, nodes: Sequence[Machine]) -> None:
    """Raises ResourceError: no machine has room for one task of this size, which would wait for ever."""
    if not any(node.get("CPU", 0) >= cpus and node.get("GPU", 0) >= gpus for node in nodes):
        raise ResourceError(
            f"no machine of this Ray has {counted(cpus, 'CPU')} and {counted(gpus, 'GPU')} for one run; lower "
            "workers.cpus or workers.gpus"
        )


def require_schedulable(workers: WorkersConfig, nodes: Sequence[Machine]) -> None:
    """Raises ResourceError: some actor, or every annotation, might wait for ever. `nodes` are resources by name.

    Actors are alike, so that all fit, in whatever order, if what the machines can hold adds up. An annotation needs its
    CPUs on one machine, and actors may take them away on every one if Ray happens to spread them so.
    """
    most = [_actors_fitting(workers, node) for node in nodes]
    cpus, gpus = (sum(node.get(name, 0) for node in nodes) for name in ("CPU", "GPU"))
    total = f"{counted(cpus, 'CPU')} and {counted(gpus, 'GPU')}"
    here = f"this Ray of {counted(len(nodes), 'machine')} with {total} in all"
    each = "" if workers.count == 1 else " each"
    size = f"{counted(workers.cpus, 'CPU')} and {counted(workers.gpus, 'GPU')}{each}"
    actors = f"{counted(workers.count, 'teacher actor')} of {size}"
    if sum(most) < workers.count:
        raise ResourceError(
            f"no room for {actors} on {here}, which has room for {sum(most)}; lower workers.count, workers.cpus or "
            "workers.gpus, or set workers.elastic where an autoscaler adds machines"
        )
    largest = max(node.get("CPU", 0) for node in nodes)
    blocking = [_actors_blocking(workers, node) for node in nodes]
    if sum(blocking) <= workers.count and all(b <= m for b, m in zip(blocking, most, strict=True)):
        raise ResourceError(
            f"on {here}, where no machine has more than {counted(largest, 'CPU')}, {actors} may leave no machine with "
            f"{counted(workers.annotator_cpus, 'CPU')} free for annotation, which would wait for ever; "
            "lower workers.annotator_cpus, workers.count or workers.cpus"
        )


def count_fitting(workers: WorkersConfig, nodes: Sequence[Machine]) -> int:
    """How many of the teacher actors, up to all, the machines that are there have room for."""
    return min(workers.count, sum(_actors_fitting(workers, node) for node in nodes))


def _actors_fitting(workers: WorkersConfig, node: Mapping[str, float]) -> int:
    """How many of the teacher actors one machine can hold."""
    cpus, gpus, most = _whole(workers.cpus), _whole(workers.gpus), workers.count
    if cpus:
        most = min(most, _whole(node.get("CPU", 0)) // cpus)
    if gpus >= TEN_THOUSANDTHS:
        most = min(most, _whole(node.get("GPU", 0)) // gpus)
    elif gpus:  # a part of a GPU is one of the same GPU
        most = min(most, int(node.get("GPU", 0)) * (TEN_THOUSANDTHS // gpus))
    return most


def _actors_blocking(workers: WorkersConfig, node: Mapping[str, float]) -> int:
    """How many teacher actors on one machine leave too few CPUs for an annotation; more than fit, if none do."""
    cpus, spare = _whole(workers.cpus), _whole(node.get("CPU", 0)) - _whole(workers.annotator_cpus)
    if spare < 0:
        return 0
    return spare // cpus + 1 if cpus else workers.count + 1


def _whole(amount: float) -> int:
    return round(amount * TEN_THOUSANDTHS)
