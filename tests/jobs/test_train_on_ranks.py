"""The command line on two devices: Ctrl-C ends it in words and leaves no process, and torchrun goes on from there."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from schemas.configs.training import TrainingConfig
from schemas.configs.yaml import dump_config
from tests.caches import small_cache
from tests.commands import CLI, Program
from tests.pipeline.cluster.running import descendants, run_command
from tests.trainings import small_student
from trainer.runs.metrics import read_metrics
from trainer.runs.train import train

TRAIN = [*CLI, "train"]
TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]


def config(folder: Path, name: str, **changes: Any) -> TrainingConfig:
    given: dict[str, Any] = {
        "cache": folder / "cache",
        "output": folder / name,
        "student": small_student(),
        "optimizer": {"lr": 1e-3, "eps": 1e-4},
    }
    given |= {"steps": 40, "batch_size": 4, "threads": 1, "device": "cpu", "checkpoint_every": 2, "log_every": 1}
    return TrainingConfig.model_validate(given | changes)


def test_ranks_that_others_start_end_with_one_that_is_killed_and_go_on(tmp_path: Path) -> None:
    """Two commands in the environment that torchrun makes for its own."""
    small_cache(tmp_path)
    train(config(tmp_path, "alone"))
    path, run = tmp_path / "config.yaml", tmp_path / "run"
    path.write_text(dump_config(config(tmp_path, "run")))
    first, second = start_two(path)
    wait_for(lambda: any(run.glob("checkpoints/step-*/checkpoint.json")) or first.poll() is not None)
    second.kill()
    second.communicate(timeout=60)
    said, beside = first.communicate(timeout=60)
    assert first.returncode == 2 and "Traceback" not in said + beside
    assert (
        beside.count("stillroom: ") == beside.count("stillroom: another rank ended without a word: it was killed") == 1
    )
    assert not (run / "model").exists() and not (run / ".writer").exists()
    ended = [(*rank.communicate(timeout=60), rank.returncode) for rank in start_two(path)]
    assert [code for _, _, code in ended] == [0, 0], ended
    assert [said.count(f"student: {run / 'model'}") for said, _, _ in ended] == [1, 0]
    for line, other in zip(read_metrics(run), read_metrics(tmp_path / "alone"), strict=True):
        assert line == pytest.approx(other, rel=1e-6, abs=1e-6)


def start_two(path: Path) -> list[Program]:
    """`stillroom train` as two ranks, which meet on loopback."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    group = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    return [
        Program([*CLI, "train", path], environment=os.environ | group | {"RANK": rank, "LOCAL_RANK": rank})
        for rank in ("0", "1")
    ]


@pytest.mark.long
@pytest.mark.usefixtures("interruptible")
def test_interrupted_on_two_devices_it_goes_on_under_torchrun(tmp_path: Path) -> None:
    small_cache(tmp_path)
    train(config(tmp_path, "alone"))
    path, run = tmp_path / "config.yaml", tmp_path / "run"
    path.write_text(dump_config(config(tmp_path, "run", devices=2)))

    traps = tmp_path / "traps"  # the working directory: nothing is imported from there
    traps.mkdir()
    for name in ("multiprocessing", "trainer", "torch", "numpy"):
        (traps / f"{name}.py").write_text("open(__file__ + '.executed', 'w').close()\n")
    process = run_command(["train", str(path)], traps)
    wait_for(lambda: any(run.glob("checkpoints/step-*/checkpoint.json")) or process.poll() is not None)
    started = descendants(process.pid, "")
    process.send_signal(signal.SIGINT)
    said, _ = process.communicate(timeout=60)
    assert process.returncode == 130, said
    assert said.count("interrupted; ") == 1 and "Traceback" not in said
    assert len(started) >= 2 and not list(traps.glob("*.executed"))
    wait_for(lambda: not any(each.is_running() for each in started))
    assert not (run / "model").exists() and not (run / ".writer").exists()

    ended = subprocess.run([sys.executable, *TORCHRUN, *TRAIN, str(path)], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count(f"student: {run / 'model'}") == 1
    assert json.loads((run / "run.json").read_text())["finished"]
    for line, other in zip(read_metrics(run), read_metrics(tmp_path / "alone"), strict=True):
        assert line == pytest.approx(other, rel=1e-6, abs=1e-6)


def wait_for(done: Any) -> None:
    for _ in range(6_000):
        if done():
            return
        time.sleep(0.01)
    raise AssertionError("a minute has passed")
