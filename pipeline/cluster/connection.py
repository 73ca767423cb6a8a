"""Ray, reached: a local one of our own, a cluster at an address, or the one that runs this job. And its end.

No worker imports what happens to lie in the user's working directory. Ray puts the driver's working directory, and the
folder of its script, before everything else on a worker's path: so it is started from an empty folder. A job's working
directory stands there too, and is taken off for our workers, unless it is stillroom's own.
"""

import logging
import os
import secrets
import shlex
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, chdir, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import ray
from rich.filesize import decimal

from pipeline.cluster.code import FLOORS, PROJECT
from pipeline.cluster.placement import Machine, count_fitting, require_schedulable
from pipeline.cluster.processes import Cluster, LocalRay, Watched, ended_by_death, interrupted_by_death
from schemas.configs.extraction import WorkersConfig
from schemas.console import say
from schemas.environment import variable
from schemas.errors import ConfigError, ResourceError
from schemas.progress import interrupted
from schemas.storage.settings import storage_settings

OBJECT_STORE_BYTES = 512 * 2**20  # of a local Ray: texts and tokens pass through it, never states
TEMPORARY_BYTES = 50 * 10**6  # that a local Ray needs for its logs
MOST_ANNOTATORS = 16  # for each actor, so that a slow annotator does not starve a GPU
JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"  # Ray sets it where a submitted job runs
DIED = (
    "Ray has died: {} is gone, most often because memory ran out; what is committed stays, and the same command goes "
    "on from there"
)
STARTING = "Ray has died while it started: {} is gone; run the same command again"
# Ray has a worker's bash change to the job's working directory, puts that first on PYTHONPATH, and then runs this.
WITHOUT_WORKING_DIRECTORY = 'env PYTHONPATH="${PYTHONPATH/#"$PWD"//dev/null}" '


@dataclass(frozen=True)
class Connection:
    """A Ray that answers. `runtime_env` is for tasks and actors."""

    runtime_env: Mapping[str, Any]
    watched: Watched

    def require_alive(self) -> None:
        """Raises ResourceError if Ray is dead."""
        if part := self.watched.dead():
            raise ResourceError(DIED.format(part))


@contextmanager
def connected(workers: WorkersConfig, clean_up: Callable[[], None] = lambda: None) -> Iterator[Connection]:
    """A Ray with room for the workers of an extraction, or one that is to grow; the rest as `joined` has it.

    Raises ConfigError: a Ray of this machine alone is asked to grow.
    """
    if workers.elastic and _address(workers.address) == "local" and not ray.is_initialized():
        raise ConfigError("workers.elastic: a Ray of this machine alone gains no machines; give workers.address")
    require = partial(_tell_what_waits if workers.elastic else require_schedulable, workers)
    with joined(workers.address, require, clean_up) as connection:
        yield connection


def _tell_what_waits(workers: WorkersConfig, nodes: Sequence[Machine]) -> None:
    """Nothing is refused: for actors that it cannot place, Ray asks its autoscaler for machines."""
    if (now := count_fitting(workers, nodes)) < workers.count:
        say(f"this Ray has room for {now} of {workers.count} teacher actors now; the others wait for machines")


@contextmanager
def joined(
    address: str | None, require: Callable[[Sequence[Machine]], None], clean_up: Callable[[], None] = lambda: None
) -> Iterator[Connection]:
    """The Ray that this process has already, the one at `address`, the one this job runs on, or one of our own.

    `require` raises ResourceError if its machines are too small, which would mean waiting for ever. `clean_up` is done
    where Ray dies while it starts and nothing but the end of this process is possible.
    Raises ResourceError: nobody answers, or it dies, or it is too small.
    """
    if ray.is_initialized():
        require(_machines())
        yield Connection(_runtime_env() | _settings(), Cluster(_gcs_address()))
        return
    address = _address(address)
    if address.startswith("ray://"):
        raise ResourceError(f"workers.address {address}: a Ray client does not share the cluster's disks; submit a job")
    with _empty_folder() as folder:
        with _standing_in(folder):
            watched = _start(address, clean_up)
        inherited = isinstance(watched, LocalRay)  # what its processes are started with
        connection = Connection(_runtime_env() | ({} if inherited else _settings()), watched)
        try:
            require(_machines())
            with ended_by_death(watched, DIED) if isinstance(watched, LocalRay) else nullcontext():
                yield connection
        except Exception:
            connection.require_alive()  # its death explains every other error
            raise
        finally:
            if watched.dead():
                watched.kill()
            ray.shutdown()


def _address(given: str | None) -> str:
    """The one that is given, that of the cluster this job runs on, or "local"."""
    return given or os.environ.get("RAY_ADDRESS") or "local"


def most_annotators(workers: WorkersConfig) -> int:
    """How many annotations the processors left over can work on at once."""
    left = ray.cluster_resources().get("CPU", 0) - workers.count * workers.cpus
    return max(workers.count, min(MOST_ANNOTATORS * workers.count, int(left / workers.annotator_cpus)))


@contextmanager
def terminable() -> Iterator[None]:
    """SIGTERM, as a job's stop sends it, ends like Ctrl-C: actors killed, Ray shut down, committed shards kept.

    It spans the start of Ray, which would otherwise put handlers in this one's place that end without a word.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    terminated = False

    def interrupt(number: int, frame: FrameType | None) -> NoReturn:
        nonlocal terminated
        terminated = True
        interrupted.set()
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGTERM, interrupt)
    rays = ray._private.utils.set_sigterm_handler
    ray._private.utils.set_sigterm_handler = _leave_handler
    try:
        yield
    finally:
        ray._private.utils.set_sigterm_handler = rays
        signal.signal(signal.SIGTERM, previous)
        if terminated:
            interrupted.clear()  # a caller in Python may go on to something else


def _take_back_sigterm() -> None:
    """Ray has put a handler before Python's that prints a stack, and aborts whatever is not over in three seconds.
    To set Python's once more takes it away."""
    handler = signal.getsignal(signal.SIGTERM)
    if handler is not None and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, handler)


def _leave_handler(handler: object) -> None:
    """In the place of Ray's own function that sets one."""


def _machines() -> list[Machine]:
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def _gcs_address() -> str:
    return str(ray.get_runtime_context().gcs_address)


def _start(address: str, clean_up: Callable[[], None]) -> Watched:
    """Start or join Ray."""
    local = LocalRay()
    if address == "local":
        _require_temporary_room()
    try:
        with interrupted_by_death(local, STARTING, clean_up), _our_path() if address == "local" else nullcontext():
            ray.init(**_options(address))
    except BaseException as error:  # Ctrl-C too
        local.kill()
        if isinstance(error, ResourceError) or not isinstance(error, Exception):
            raise
        raise ResourceError(_not_started(address, error)) from error
    _take_back_sigterm()
    return local if address == "local" else Cluster(_gcs_address())


def _require_temporary_room() -> None:
    """Where its folder is full, Ray waits for files that never come. Raises ResourceError."""
    wanted = Path(os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp", "ray").absolute()
    place = next(folder for folder in (wanted, *wanted.parents) if folder.exists())
    free = shutil.disk_usage(place).free
    if free < TEMPORARY_BYTES:
        raise ResourceError(
            f"Ray keeps sockets and logs in {wanted}, where only {decimal(free)} are free; make room, or name another "
            "folder in RAY_TMPDIR"
        )


def _not_started(address: str, error: Exception) -> str:
    reason = " ".join(str(error).split())[:500] or type(error).__name__
    if address == "local":
        return f"cannot start Ray: {reason}; it needs a writable folder with free space: name one in RAY_TMPDIR"
    return f"cannot reach Ray at {address}: {reason}"


def _options(address: str) -> dict[str, Any]:
    """How Ray is to be started or joined."""
    options: dict[str, Any] = {"address": address, "log_to_driver": False, "logging_level": logging.ERROR}
    if address == "local":
        # Ray would leave a token under the home directory, and every later `ray start` would ask for it.
        if "RAY_AUTH_MODE" not in os.environ and not (Path.home() / ".ray" / "auth_token").exists():
            os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
        # Ray would begin with an idle worker for each processor, before it is known how many are wanted.
        os.environ.setdefault("RAY_prestart_worker_first_driver", "0")
        options |= {"include_dashboard": False, "object_store_memory": OBJECT_STORE_BYTES}
    elif JOB not in os.environ:  # a submitted job brings its own working directory
        options |= {"runtime_env": {"py_modules": [str(PROJECT / floor) for floor in FLOORS]}}
    logging.getLogger("ray").setLevel(logging.ERROR)
    # `log_to_driver` leaves out what workers print, but not the last 20 lines of a dead raylet's log.
    ray._private.worker._worker_logs_enabled = False
    return options


def _runtime_env() -> dict[str, Any]:
    """Beside what Ray was started with. A job's machines hold the same Python as the one it was started on."""
    if JOB not in os.environ or Path.cwd().resolve() == PROJECT:
        return {}
    return {"py_executable": WITHOUT_WORKING_DIRECTORY + shlex.quote(sys.executable)}


def _settings() -> dict[str, Any]:
    """Of the storages that this process uses, for machines that do not have them."""
    found = storage_settings()
    return {"env_vars": found} if found else {}


def _our_path() -> AbstractContextManager[None]:
    """Our code on PYTHONPATH for the processes that are started meanwhile, and those that they start.

    A `runtime_env` would do the same, but it has Ray start a Python and import itself there before each worker.
    """
    return variable("PYTHONPATH", os.pathsep.join(filter(None, [str(PROJECT), os.environ.get("PYTHONPATH")])))


@contextmanager
def _empty_folder() -> Iterator[Path]:
    """Raises ResourceError if there is no place for one."""
    try:
        folder = tempfile.TemporaryDirectory(prefix="stillroom-", ignore_cleanup_errors=True)
    except OSError as error:
        raise ResourceError(f"cannot make a temporary folder: {error}; name a writable place in TMPDIR") from error
    with folder as name:
        yield Path(name)


@contextmanager
def _standing_in(folder: Path) -> Iterator[None]:
    """Makes `folder` this process's working directory, and its script's, for a while."""
    script, sys.argv[0] = sys.argv[0], str(folder / "stillroom")
    try:
        with chdir(folder):
            yield
    finally:
        sys.argv[0] = script
