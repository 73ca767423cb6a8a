"""`devices: N` on one machine: this process starts N ranks, waits for them, and ends as they do.

It keeps the store in which they meet, on loopback, so a rank's last words outlive it. Ctrl-C and the end of this
process, however it comes, end the ranks.
"""

import json
import logging
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from multiprocessing.connection import wait
from multiprocessing.context import ForkServerContext, SpawnContext
from multiprocessing.process import BaseProcess
from multiprocessing.reduction import DupFd
from typing import Any

import torch
import torch.distributed as dist

from schemas.configs.training import TrainingConfig
from schemas.environment import variable
from schemas.errors import RunError, StillroomError, error_of, kind_of
from schemas.failures import describe_failure
from trainer.optimisation.memory import keep_freed_memory
from trainer.runs.group import GOES_ON, LOST, Failure, OtherRankFailed, is_rank, tell, told

HOST = "127.0.0.1"
RESULT = "stillroom/result"
GRACE = 10.0  # seconds for ranks to end by themselves when one has failed
RANK = "rank {}"  # the name of a rank's process
UNGUARDED = 79  # the code of a rank that came upon the call that starts ranks while it imported the script
GUARD = (
    "each of several `devices` is a process, which imports this script first and would start them again: put what is "
    'to run once under `if __name__ == "__main__":`, or use `stillroom train` or torchrun'
)

Work = Callable[[TrainingConfig], Any]  # returns what JSON can say


def is_for_several(config: TrainingConfig) -> bool:
    """Whether `config` asks this process to start others."""
    return config.devices > 1 and not is_rank()


def start_ranks(config: TrainingConfig, work: Work) -> Any:
    """What `work(config)` returns on the first of `config.devices` ranks.

    `work` is a function of a module, which every rank imports. Raises the StillroomError that all ranks raised alike,
    or the first one's with its rank named; RunError: a rank was killed, or this is called amid the import of a script.
    """
    _require_imported()
    store = _store(0, keeps=True)
    context = _context()
    given = (work, config.model_dump_json(), config.devices, store.port, _Output())
    ranks: list[BaseProcess] = []
    # Python would look for modules in the working directory first, where it is started by multiprocessing.
    with variable("PYTHONSAFEPATH", "1"):
        for rank in range(config.devices):
            ranks.append(context.Process(target=_run_rank, args=(rank, *given), name=RANK.format(rank), daemon=True))
            ranks[-1].start()
    try:
        _wait(ranks)
    finally:
        _end(ranks)
    _require_success(ranks, store)
    return json.loads(store.get(RESULT))


def _require_imported() -> None:
    """End a rank that has not begun its work: Python has it import the user's script first, before it knows its parent,
    and that came to here. The process that started it tells the user."""
    if multiprocessing.parent_process() is None and multiprocessing.current_process().name.startswith(RANK.format("")):
        os._exit(UNGUARDED)


def _context() -> SpawnContext | ForkServerContext:
    """How ranks start. On Linux they are forks of a server that has imported torch and transformers once for all, and
    has touched no device; other systems cannot fork what these load."""
    if sys.platform != "linux":
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["trainer.runs.train"])
    return context


def _store(port: int, keeps: bool = False) -> Any:
    """The store at `port`, or at one that is free, if this process keeps it."""
    return dist.TCPStore(HOST, port, is_master=keeps, wait_for_workers=False)  # type: ignore[attr-defined]


def _wait(ranks: Sequence[BaseProcess]) -> None:
    """Until all are done, or one has failed."""
    alive = list(ranks)
    while alive:
        wait([rank.sentinel for rank in alive])
        for rank in [rank for rank in alive if not rank.is_alive()]:
            alive.remove(rank)
            if rank.exitcode:
                return


def _end(ranks: Sequence[BaseProcess]) -> None:
    """End those that still run: by themselves, as one that failed lets the others find out, then by force."""
    interrupted = isinstance(sys.exc_info()[1], KeyboardInterrupt)
    for rank in ranks:
        if interrupted and rank.is_alive() and rank.pid is not None:
            os.kill(rank.pid, signal.SIGINT)
    for rank in ranks:
        rank.join(GRACE)
        if rank.is_alive():
            rank.kill()
            rank.join()


def _require_success(ranks: Sequence[BaseProcess], store: Any) -> None:
    killed = [(number, -rank.exitcode) for number, rank in enumerate(ranks) if rank.exitcode and rank.exitcode < 0]
    if any(rank.exitcode == UNGUARDED for rank in ranks):
        raise RunError(GUARD)
    first, said = told(store), [told(store, rank) for rank in range(len(ranks))]
    if first is not None and all(own and (own.kind, own.words) == (first.kind, first.words) for own in said):
        raise error_of(first.kind, first.words)
    if first is not None and (not killed or first != LOST):
        raise error_of(first.kind, str(first))
    for number, signum in killed:
        name = signal.Signals(signum).name
        raise RunError(f"rank {number} of {len(ranks)} was ended by signal {signum} ({name}); {GOES_ON}")
    failed = [number for number, rank in enumerate(ranks) if rank.exitcode]
    if failed:
        raise RunError(f"rank {failed[0]} of {len(ranks)} ended with code {ranks[failed[0]].exitcode}; {GOES_ON}")


class _Output:
    """Where this process writes, on its way to a rank. The server that ranks are forks of writes where this process did
    when the server was started: in a sweep, into the log of an earlier run."""

    def __reduce__(self) -> Any:
        return _take_output, tuple((number, DupFd(number)) for number in (1, 2) if _is_open(number))


def _take_output(*given: tuple[int, Any]) -> None:
    for number, handed in given:
        os.dup2(handed.detach(), number)


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


def _run_rank(rank: int, work: Work, config_json: str, size: int, port: int, _output: None) -> None:
    os.setpgid(0, 0)  # a Ctrl-C in the terminal is the parent's, who passes it on once
    signal.signal(signal.SIGINT, signal.default_int_handler)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    named = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size, "MASTER_ADDR": HOST, "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in named.items()})
    os.environ["TORCHELASTIC_USE_AGENT_STORE"] = "True"  # the store is the parent's
    config = TrainingConfig.model_validate_json(config_json)
    keep_freed_memory()
    if config.threads is None:
        torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // size))
    if rank > 0:
        logging.disable(logging.WARNING)  # the first rank says it
    store = _store(port)
    try:
        result = work(config)
        if rank == 0:
            store.set(RESULT, json.dumps(result))
    except OtherRankFailed:
        sys.exit(2)
    except StillroomError as error:
        tell(store, Failure(str(error), kind_of(error)), rank)  # before the ranks have met, it names its rank
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        if describe_failure(error) is None:
            raise  # an error of the program, with its traceback
        tell(store, Failure.of(error, rank, size), rank)
        sys.exit(2)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
