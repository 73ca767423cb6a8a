"""A Ray that dies, and one that is started in a folder full of traps: as commands of their own."""

import re
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from _pytest.mark import ParameterSet

import pipeline.cluster.connection
from pipeline.cluster.connection import connected
from pipeline.cluster.extract import extract
from pipeline.output.resume import open_output
from pipeline.request.request import make_request
from schemas.configs.extraction import WorkersConfig
from schemas.errors import ConfigError, ResourceError
from tests.caches import build_cache
from tests.pipeline.cluster.running import (
    config,
    descendants,
    make_inputs,
    num_shards,
    run_command,
    shard_files,
    start_command,
    wait_until,
    write_config,
)
from tests.rays import OneRay

pytestmark = pytest.mark.timeout(600)
# A raylet ends its other agent when one is gone.
GONE = {"ray::RuntimeEnvAgent": "(RuntimeEnv|Dashboard)Agent"}
FOREIGN = ("schemas", "pipeline", "jobs", "numpy", "pyarrow", "torch", "zarr", "yaml", "psutil", "schedule", "typing")


def long(value: object) -> ParameterSet:
    """Another of a kind, for `make check`."""
    return pytest.param(value, marks=pytest.mark.long)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_inputs(tmp_path_factory.mktemp("connection"))


def test_a_ray_of_this_machine_gains_no_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    with (
        pytest.raises(ConfigError, match=r"workers\.elastic: .* gains no machines; give workers\.address"),
        connected(WorkersConfig(count=2, elastic=True)),
    ):
        pass


@pytest.mark.long
def test_nothing_in_the_working_directory_is_imported(folder: Path, tmp_path: Path) -> None:
    """Modules and packages named as ours, our libraries and the standard library's, which write if they are run."""
    for name in FOREIGN:
        (tmp_path / f"{name}.py").write_text("open(__file__ + '.executed', 'w').close()\n")
    (tmp_path / "transformers").mkdir()
    (tmp_path / "transformers" / "__init__.py").write_text("open(__file__ + '.executed', 'w').close()\n")
    asked = config(folder, str(folder / "traps"))
    command = run_command(["extract", str(write_config(asked))], tmp_path)
    said, _ = command.communicate(timeout=300)
    assert command.returncode == 0, said
    assert list(tmp_path.rglob("*.executed")) == []
    assert num_shards(asked.output) > 20


def test_a_place_that_ray_cannot_write_to_is_said(
    one_ray: OneRay, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one_ray.end()
    (tmp_path / "file").touch()
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path / "file" / "below"))
    said = r"^cannot start Ray: .*Not a directory.* name one in RAY_TMPDIR$"
    with pytest.raises(ResourceError, match=said), connected(WorkersConfig()):
        pass


def test_a_place_that_is_full_is_said_before_ray_waits_for_it(
    one_ray: OneRay, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one_ray.end()
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setattr(pipeline.cluster.connection, "TEMPORARY_BYTES", 2**62)
    said = rf"^Ray keeps sockets and logs in {tmp_path}/tmp/ray, where only .*B are free; make room, or name another"
    with pytest.raises(ResourceError, match=said), connected(WorkersConfig()):
        pass


def kill_when(condition: Callable[[], bool], command: int, named: str) -> float:
    """Kill the process `named` below `command` as soon as it is there and `condition` holds. The moment."""
    found = list[psutil.Process]()

    def is_there() -> bool:
        found[:] = descendants(command, named)
        return bool(found) and condition()

    assert wait_until(is_there), f"no {named} in two minutes"
    found[0].kill()
    return time.monotonic()


@pytest.mark.parametrize("process", ["raylet", long("gcs_server")])
def test_a_ray_that_dies_while_it_starts_is_said_within_seconds(process: str, folder: Path, tmp_path: Path) -> None:
    command = start_command(config(folder, str(tmp_path / "cache")), tmp_path)
    # Before the GCS has told its port Ray waits for it in a way that stops all of Python, up to 30 seconds.
    killed = kill_when(lambda: bool(descendants(command.pid, "raylet")), command.pid, process)
    said, _ = command.communicate(timeout=120)
    assert time.monotonic() - killed < 20  # Ray waits for 30 or 60
    assert command.returncode == 2, said
    ours = [line for line in said.splitlines() if "rpc_client.h" not in line]  # a warning that Ray itself prints
    assert ours == [f"stillroom: Ray has died while it started: its {process} is gone; run the same command again"]
    assert not (tmp_path / "cache").exists()


@pytest.mark.long
@pytest.mark.parametrize("seconds", [0.0, 1.0])
def test_a_stop_while_ray_starts_ends_like_ctrl_c_and_leaves_nothing(
    seconds: float, folder: Path, tmp_path: Path
) -> None:
    command = start_command(config(folder, str(tmp_path / "cache")), tmp_path)
    assert wait_until(lambda: bool(descendants(command.pid, "raylet")))
    time.sleep(seconds)
    rays = descendants(command.pid, "")
    command.terminate()
    said, _ = command.communicate(timeout=120)
    assert command.returncode == 130, said
    ours = [line for line in said.splitlines() if "rpc_client.h" not in line]
    assert ours == [
        "stillroom: interrupted; every finished shard stays in the output; the same command goes on after it"
    ]
    assert wait_until(lambda: not any(process.is_running() for process in rays))


@pytest.mark.parametrize("units", [long(1)])
def test_a_stop_amid_the_work_leaves_no_stack_of_rays(units: int, folder: Path, tmp_path: Path) -> None:
    """Ray's own handler would print one, and abort the process three seconds later."""
    command = start_command(config(folder, str(tmp_path / "cache")), tmp_path)
    assert wait_until(lambda: num_shards(tmp_path / "cache") >= units)
    command.terminate()
    said, _ = command.communicate(timeout=120)
    assert command.returncode == 130 and "SIGTERM received" not in said, said


def committed(cache: Path) -> dict[str, bytes]:
    paths = [path for shard in (cache / "shards").glob("[0-9]*") for path in shard.rglob("*") if path.is_file()]
    return {str(path.relative_to(cache)): path.read_bytes() for path in paths}


@pytest.fixture(scope="module")
def undisturbed(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """Without any Ray."""
    return shard_files(build_cache(config(folder, str(tmp_path_factory.mktemp("whole") / "cache"))))


@pytest.mark.parametrize("process", ["raylet", long("gcs_server"), long("ray::RuntimeEnvAgent")])
def test_a_ray_that_dies_amid_the_units_is_said_and_can_be_gone_on_from(
    process: str, folder: Path, undisturbed: dict[str, bytes], one_ray: OneRay, tmp_path: Path
) -> None:
    asked = config(folder, str(tmp_path / "cache"))
    command = start_command(asked, tmp_path)
    assert wait_until(lambda: num_shards(asked.output) >= 3)
    actors = descendants(command.pid, "ray::TeacherActor")
    killed = kill_when(lambda: True, command.pid, process)
    said, _ = command.communicate(timeout=120)
    assert time.monotonic() - killed < 30  # Ray ends the process after 60
    assert actors and wait_until(lambda: not any(actor.is_running() for actor in actors))  # one may have ended a unit
    assert command.returncode == 2, said
    messages = [line for line in said.splitlines() if not line.startswith(("extracting: ", "unit "))]
    assert len(messages) == 1 and re.match(
        f"stillroom: Ray has died: its {GONE.get(process, process)} is gone", messages[0]
    ), said
    before = num_shards(asked.output)
    assert before >= 3
    assert committed(asked.output).items() <= undisturbed.items()
    # What a run begins with that goes on, whoever died before.
    heard = list[str]()
    with open_output(asked.output, make_request(asked).manifest, heard.append) as output:
        assert len(output.done) == before
    assert [line for line in heard if "is taken over" not in line] == []  # the lock of the dead, at most
    if process == "gcs_server":
        one_ray.address()  # it is not the one that died
        again = extract(asked)
        assert again.new_units == again.units - before
        assert shard_files(asked.output) == undisturbed
