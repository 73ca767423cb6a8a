"""The order of the files, what takes longest first, the Ray that many of them share, and Ctrl-C."""

import atexit
import gc
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.buckets import Bucket, Server, made_known
from tests.rays import OneRay

HERE = Path(__file__).resolve().parent
# Each takes ten seconds or more, the longest first, so that no process is at work long after the others: nearly all
# start Rays or many processes. Those that share a Ray stand together.
LONGEST = (
    "pipeline/cluster/test_extract.py",
    "pipeline/cluster/test_extract_nodes.py",
    "jobs/demo/test_demo.py",
    "jobs/test_extract.py",
    "jobs/sweep/test_on_ray.py",
    "jobs/test_extract_conversations.py",
    "pipeline/cluster/test_extract_conversations.py",
    "jobs/bad_input/test_extraction.py",
    "pipeline/cluster/test_connection.py",
    "jobs/test_ray_job.py",
    "trainer/student/test_compiled.py",
    "trainer/runs/test_start_ranks.py",
    "jobs/test_outside.py",
    "jobs/test_train_on_ranks.py",
    "schemas/cache/test_verify.py",
    "jobs/sweep/test_sweep.py",
    "jobs/test_guard.py",
    "trainer/runs/test_train.py",
    "pipeline/replay/test_replay.py",
    "schemas/cache/test_flips.py",
    "trainer/runs/test_folder.py",
    "jobs/sweep/test_processes.py",
    "jobs/test_fuzz.py",
)

# Where there is no GPU to compile for, kernels are interpreted. Triton reads this when torch imports it, which the
# conftest of a folder does before any hook of this one is called.
if not Path("/dev/nvidia0").exists():
    os.environ.setdefault("TRITON_INTERPRET", "1")


def pytest_configure() -> None:
    """What tests write need not outlive a power cut: to wait for the disk cost them a minute. Programs that they start
    do wait, and `tests/schemas/storage/test_atomic.py` shows what for."""
    pytest.MonkeyPatch().setattr(os, "fsync", lambda descriptor: None)


def pytest_unconfigure() -> None:
    """After Triton's interpreter, its bindings count on the way out, in a page of words, what they never let go."""
    if "triton" in sys.modules:  # at the very end: pytest gives standard error back after this
        atexit.register(os.dup2, os.open(os.devnull, os.O_WRONLY), 2)


ON_RAY: set[Path] = set()  # files with a test that asks for the shared Ray


def pytest_collection() -> None:
    """All that is imported stays: to look for garbage in it took a fifth of the time."""
    gc.disable()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    place = {HERE / name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path, len(place)))
    ON_RAY.update(item.path for item in items if "one_ray" in getattr(item, "fixturenames", ()))


def pytest_collection_finish() -> None:
    """A million objects of torch, transformers and 8,000 tests are there to stay: garbage is not looked for in them."""
    gc.collect()
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session")
def one_ray() -> Iterator[OneRay]:
    """One Ray for all who ask for its address."""
    yield OneRay()
    OneRay.end()


@pytest.fixture(scope="module", autouse=True)
def no_ray_of_others(request: pytest.FixtureRequest) -> None:
    """It goes on through the files that use it, and ends before another: what forks should not carry its threads."""
    if request.path not in ON_RAY:
        OneRay.end()


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Commands heed Ctrl-C, also where the tests themselves run in the background of a shell and ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bucket:
    """A new bucket of a real S3 server, and a home of its own for copies."""
    made_known(monkeypatch, tmp_path / "home")
    return Server.only().bucket()
