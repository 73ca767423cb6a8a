"""This process as one of the ranks that train together, and one message for the user when any of them fails.

`torchrun` names the ranks in the environment, and so does `trainer.runs.start_ranks`. What the CPU holds goes through
gloo, what a GPU holds through NCCL. A rank that fails writes its words into the store which all ranks share, before its
connections close; the others find them there when their next exchange fails, and end without words of their own. Words
name their rank, unless all say the same.
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import timedelta
from itertools import count
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.rendezvous import rendezvous

from schemas.configs.training import TrainingConfig
from schemas.errors import ResourceError, RunError, StillroomError, kind_of
from schemas.failures import describe_failure
from trainer.optimisation.ranks import Ranks
from trainer.student.device import choose_device

NAMED = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")  # by torchrun, in the environment
MEETING = timedelta(minutes=5)
WAITING = timedelta(minutes=30)  # for the slowest rank: the first one evaluates and writes checkpoints alone
_groups = count()  # a process may take part in several runs, one after the other
FAILURE = "stillroom/failure"
GOES_ON = "the last checkpoint stays, if there is one: the same command goes on from it"


class OtherRankFailed(RunError):
    """Another rank has said what went wrong, or nobody can: there is nothing to add."""


@dataclass(frozen=True)
class Failure:
    """Why a run ends, as one rank tells the others and the process that started them."""

    words: str
    kind: str = RunError.__name__  # of the error
    rank: str = ""  # the rank whose words these are, before them

    def __str__(self) -> str:
        return self.rank + self.words

    @staticmethod
    def of(error: BaseException, rank: int, size: int) -> "Failure":
        """In words that a user can read."""
        return Failure(_describe(error), kind_of(error), f"rank {rank} of {size}: ")


LOST = Failure(f"another rank ended without a word: it was killed, or its memory ran out; {GOES_ON}")


def is_rank() -> bool:
    """Whether this process was started as one of several."""
    return all(name in os.environ for name in NAMED)


def speaks() -> bool:
    """Whether this process tells the user how the run ends: the first rank, or one that was not started as a rank."""
    return not is_rank() or os.environ["RANK"] == "0"


@contextmanager
def joined(config: TrainingConfig) -> Iterator[Ranks]:
    """The ranks of this run, met and ready; a process that was not started as one of them is alone.

    Raises RunError if they do not meet or are not as many as `devices` says, ResourceError for a GPU that is not there,
    OtherRankFailed where another rank was the first to fail.
    """
    if not is_rank():
        yield Ranks()
        return
    device = _own_device(config)
    store, ranks = _meet(config, device)
    failed = True
    try:
        with _one_message(store, ranks):
            yield ranks
            ranks.gather(None)  # nobody leaves before all are done
        failed = False
    finally:
        if not failed:  # a failed rank's connections close with it; to end a group waits for all
            dist.destroy_process_group()


def _own_device(config: TrainingConfig) -> torch.device:
    device = choose_device(config.device)
    if device.type == "cuda":
        local, gpus = int(os.environ.get("LOCAL_RANK", "0")), torch.cuda.device_count()
        if local >= gpus:
            raise ResourceError(
                f"rank {os.environ['RANK']} is number {local} on its machine, counted from 0, which has {gpus} GPUs; "
                "start up to one rank per GPU, or set device: cpu"
            )
        torch.cuda.set_device(local)
    return device


def _meet(config: TrainingConfig, device: torch.device) -> tuple[Any, Ranks]:
    size = int(os.environ["WORLD_SIZE"])
    if config.devices not in (1, size):
        raise RunError(f"devices is {config.devices}, and {size} ranks were started; leave `devices` out")
    backend = "cpu:gloo,cuda:nccl" if device.type == "cuda" else "gloo"
    try:
        store, rank, size = next(iter(rendezvous("env://", timeout=MEETING)))
        own = dist.PrefixStore(f"stillroom/{next(_groups)}", store)  # type: ignore[attr-defined]
        dist.init_process_group(backend, store=own, rank=rank, world_size=size, timeout=WAITING)
    except (RuntimeError, ValueError) as error:
        place = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
        reason = str(error).splitlines()[0]
        raise RunError(f"rank {os.environ['RANK']} of {size} did not meet the others at {place}: {reason}") from error
    return store, Ranks.here()


@contextmanager
def _one_message(store: Any, ranks: Ranks) -> Iterator[None]:
    try:
        yield
    except BaseException as error:
        if ranks.size == 1:
            raise
        lost = _has_lost_a_rank(error)
        own = LOST if lost else Failure.of(error, ranks.rank, ranks.size)
        first = tell(store, own, ranks.rank)
        if first != own and not isinstance(error, KeyboardInterrupt):
            raise OtherRankFailed(own.words if own.words == first.words else str(first)) from error
        if lost:
            raise RunError(own.words) from error
        raise


def tell(store: Any, failure: Failure, rank: int) -> Failure:
    """Record why `rank` ends, and the run, unless that is recorded already; returns what the first one said."""
    text = json.dumps(asdict(failure))
    try:
        store.compare_set(_place(rank), "", text)
        recorded: bytes = store.compare_set(FAILURE, "", text)
    except RuntimeError:  # the store is gone with the process that kept it
        return failure
    return Failure(**json.loads(recorded))


def told(store: Any, rank: int | None = None) -> Failure | None:
    """Why `rank` ended, or the run; None where nobody has said."""
    place = FAILURE if rank is None else _place(rank)
    return Failure(**json.loads(store.get(place))) if store.check([place]) else None


def _place(rank: int) -> str:
    return f"{FAILURE}/{rank}"


def _describe(error: BaseException) -> str:
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    if isinstance(error, StillroomError):
        return str(error)
    return describe_failure(error) or f"{type(error).__name__}: {error}"


def _has_lost_a_rank(error: BaseException | None) -> bool:
    """Whether an exchange failed because another rank is gone, wherever in the chain of errors."""
    while error is not None:
        if isinstance(error, dist.DistError) or (isinstance(error, RuntimeError) and "gloo" in str(error)):
            return True
        error = error.__cause__ or error.__context__
    return False
