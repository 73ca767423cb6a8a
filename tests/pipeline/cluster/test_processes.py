"""Whether Ray is still there: a child that dies is seen, an address that nobody answers is, and a wait is ended."""

import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from pipeline.cluster import processes
from pipeline.cluster.processes import Cluster, LocalRay, interrupted_by_death
from schemas.errors import ResourceError

MESSAGE = "Ray has died: {} is gone"


class Dead:
    """A Ray of which something is dead from the start."""

    def dead(self) -> str | None:
        return "its raylet"

    def kill(self) -> None:
        raise AssertionError("nobody asked for that")


class Alive(Dead):
    def dead(self) -> str | None:
        return None


def start(folder: Path, name: str) -> "subprocess.Popen[bytes]":
    """A child that goes by the name of a process of Ray's, and has come up."""
    program = folder / name
    if not program.exists():
        program.symlink_to("/bin/sleep")
    child = subprocess.Popen([program, "60"])
    while psutil.Process(child.pid).name() != name:
        time.sleep(0.01)
    return child


def test_a_child_that_came_up_later_and_dies_is_named(tmp_path: Path) -> None:
    before = start(tmp_path, "raylet")
    ray = LocalRay()
    mine = start(tmp_path, "gcs_server")
    try:
        assert ray.dead() is None
        before.kill()
        before.wait()
        assert ray.dead() is None  # it was another's
        mine.kill()  # not waited for: what is left of it is no life
        while psutil.Process(mine.pid).status() != psutil.STATUS_ZOMBIE:
            time.sleep(0.01)
        assert ray.dead() == "its gcs_server"
    finally:
        mine.kill()
        mine.wait()
    assert ray.dead() == "its gcs_server"
    ray.kill()  # it is gone already


def test_what_this_process_started_is_ended_with_it(tmp_path: Path) -> None:
    ray, child = LocalRay(), start(tmp_path, "raylet")
    ray.kill()
    assert child.wait(timeout=10) == -9


def test_an_address_is_dead_after_nobody_answered_for_long_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    with socket.create_server(("127.0.0.1", 0)) as server:
        cluster = Cluster(f"127.0.0.1:{server.getsockname()[1]}")
        clock[0] += processes.LOOK_SECONDS
        assert cluster.dead() is None
    seen = clock[0]
    for later in (1.0, processes.ABSENT_SECONDS, processes.ABSENT_SECONDS + 1):
        clock[0] = seen + later
        assert cluster.dead() is None  # within 20 seconds, and then it is not looked for again so soon
    clock[0] = seen + processes.ABSENT_SECONDS + processes.LOOK_SECONDS + 0.1
    assert cluster.dead() == "its GCS"
    cluster.kill()


def test_a_wait_is_ended_by_a_death() -> None:
    started = time.monotonic()
    with (
        pytest.raises(ResourceError, match=r"^Ray has died: its raylet is gone$"),
        interrupted_by_death(Dead(), MESSAGE),
    ):
        time.sleep(30)
    assert time.monotonic() - started < 5


def test_without_a_death_nothing_is_ended_and_errors_pass() -> None:
    with interrupted_by_death(Alive(), MESSAGE):
        time.sleep(3 * processes.WATCH_SECONDS)
    with pytest.raises(KeyError), interrupted_by_death(Alive(), MESSAGE):
        raise KeyError
    assert not [thread for thread in threading.enumerate() if thread.name == "watch"]


def test_other_threads_are_left_alone() -> None:
    done: list[bool] = []

    def wait() -> None:
        with interrupted_by_death(Dead(), MESSAGE):
            time.sleep(3 * processes.WATCH_SECONDS)
        done.append(True)

    thread = threading.Thread(target=wait)
    thread.start()
    thread.join()
    assert done == [True]


def run_python(code: str) -> "subprocess.CompletedProcess[str]":
    root = Path(__file__).resolve().parents[3]
    command = [sys.executable, "-c", code]
    return subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=60, check=False)


def test_a_thread_that_is_deaf_to_signals_ends_with_the_process() -> None:
    """A wait inside a C library, as Ray's: the process itself is ended, with the message."""
    done = run_python(
        "import signal, time\nfrom pipeline.cluster import processes\n"
        "from tests.pipeline.cluster.test_processes import Dead\nprocesses.GRACE_SECONDS = 0.2\n"
        "def clean_up():\n    print('cleaned up', flush=True)\n    raise OSError\n"
        "with processes.interrupted_by_death(Dead(), 'Ray has died: {} is gone', clean_up):\n"
        "    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])\n"
        "    time.sleep(30)\n"
    )
    assert (done.returncode, done.stderr) == (2, "stillroom: Ray has died: its raylet is gone\n")
    assert done.stdout == "cleaned up\n"


WATCHING = """
import subprocess, sys, time
from pathlib import Path
from pipeline.cluster.processes import LocalRay, ended_by_death
from tests.pipeline.cluster.test_processes import start
ray, folder = LocalRay(), Path({folder!r})
gcs, raylet = start(folder, "gcs_server"), start(folder, "raylet")
with ended_by_death(ray, "Ray has died: {{}} is gone"):
    time.sleep(0.5)
    if {dies}:
        raylet.kill()
        time.sleep(30)
gcs.kill(), raylet.kill()
time.sleep(0.5)
print("went on")
"""


def test_the_process_ends_as_soon_as_its_ray_has_died(tmp_path: Path) -> None:
    """Within seconds, and what else Ray has started ends with it; later than the watch, its end is as wanted."""
    started = time.monotonic()
    done = run_python(WATCHING.format(folder=str(tmp_path), dies=True))
    assert (done.returncode, done.stdout) == (2, "") and time.monotonic() - started < 20
    assert done.stderr == "stillroom: Ray has died: its raylet is gone\n"
    assert not [process for process in psutil.process_iter() if str(tmp_path) in " ".join(command_line(process))]
    done = run_python(WATCHING.format(folder=str(tmp_path), dies=False))
    assert (done.returncode, done.stdout, done.stderr) == (0, "went on\n", "")


def command_line(process: psutil.Process) -> list[str]:
    try:
        return [] if process.status() == psutil.STATUS_ZOMBIE else process.cmdline()
    except psutil.Error:
        return []
