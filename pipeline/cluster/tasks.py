"""Independent pieces of work as Ray tasks, some at a time: what each returned, or why it did not."""

from collections import deque
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import ray
from ray.exceptions import RayError, RayTaskError

from pipeline.cluster.connection import Connection

POLL_SECONDS = 0.5
T = TypeVar("T")


@dataclass(frozen=True)
class Ended(Generic[T]):
    """A call that is over: what it returned, or a `problem`."""

    number: int
    value: T | None
    problem: str | None = None


def run_tasks(
    connection: Connection,
    work: Callable[..., T],
    calls: Sequence[tuple[Any, ...]],
    at_once: int,
    cpus: float,
    gpus: float,
) -> Generator[Ended[T] | None]:
    """The calls of `work` as they end, in whatever order, up to `at_once` of them at a time; None now and then.

    None is tried again. Closed early, it ends what still runs. Raises ResourceError if Ray dies.
    """
    task = ray.remote(num_cpus=cpus, num_gpus=gpus, max_retries=0, runtime_env=dict(connection.runtime_env))(work)
    waiting, running = deque(enumerate(calls)), dict[Any, int]()
    try:
        while waiting or running:
            connection.require_alive()
            while waiting and len(running) < at_once:
                number, arguments = waiting.popleft()
                running[task.remote(*arguments)] = number
            ended, _ = ray.wait(list(running), timeout=POLL_SECONDS)
            for call in ended:
                yield _end_of(running.pop(call), call)
            if not ended:
                yield None
    finally:
        for call in running:
            ray.cancel(call, force=True)


def _end_of(number: int, call: Any) -> Ended[Any]:
    try:
        return Ended(number, ray.get(call))
    except RayTaskError as error:
        return Ended(number, None, f"an error of the program, {error.cause}")
    except RayError as error:  # its worker or machine died, by whatever cause
        reason = " ".join(str(error).split())[:300]
        return Ended(number, None, f"its worker died ({type(error).__name__}): {reason}")
