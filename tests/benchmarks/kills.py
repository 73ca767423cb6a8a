"""Kills at random moments: what is resumed afterwards ends in the same bytes as what was never disturbed.

    python -m tests.benchmarks.kills extract --kills 40
    python -m tests.benchmarks.kills conversations --kills 40
    python -m tests.benchmarks.kills train --kills 40

Each try is struck once by SIGKILL: the command itself, or for extractions also a worker, raylet or GCS of its Ray. The
same command is run again until it finishes, and then the next output is begun, until `--kills` have struck. Three
of ten strike at a random time, the others once some more has been committed; and of those that meet a cache without
codecs/, half strike while it is calibrated. Exits 1 if a byte differs, if a try ends
in another way than by the kill, with an error message (2) or well (0), or if it prints a traceback.
"""

import argparse
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import psutil

from schemas.cache.codec_files import CODEC_FOLDER
from schemas.cache.manifest import TEACHER
from schemas.configs.extraction import ExtractionConfig
from schemas.configs.training import TrainingConfig
from schemas.configs.yaml import dump_config
from tests.caches import small_cache
from tests.pipeline.cluster.running import (
    config,
    conversations_config,
    descendants,
    make_conversations,
    make_inputs,
    num_shards,
    run_command,
    shard_files,
    write_config,
)

STATES = {"hidden": [0, "last"], "mass": ["last"], "encoding": "small"}
CALIBRATION_SECONDS = 3.0  # about, of so small a teacher
LIMIT_SECONDS = 600.0  # for one try on a busy machine


@dataclass
class Job:
    """A command that can be run into any output, how far one has come, and what of it must be the same."""

    start: Callable[[Path], "subprocess.Popen[str]"]
    committed: Callable[[Path], int]
    result: Callable[[Path], dict[str, bytes]]
    most: int  # that is committed in the end
    victims: tuple[str, ...]  # processes below the command, by their beginning; "" for the command itself
    is_calibrating: Callable[[Path], bool] = lambda output: False


@dataclass
class Tally:
    """What has happened so far."""

    kills: Counter[str] = field(default_factory=Counter)
    ends: Counter[int] = field(default_factory=Counter)
    finished: int = 0
    wrong: list[str] = field(default_factory=list)


def extract(asked: ExtractionConfig) -> "subprocess.Popen[str]":
    """Started, in the folder of its output."""
    return run_command(["extract", str(write_config(asked))], asked.output.parent)


def extract_job(folder: Path) -> Job:
    """23 units, two workers, hidden states encoded by tables that are calibrated first."""
    make_inputs(folder)
    return Job(
        start=lambda output: extract(config(folder, str(output), states=STATES, workers={"count": 2})),
        committed=num_shards,
        most=23,
        result=shard_files,
        victims=("", "ray::TeacherActor", "ray::", "raylet", "gcs_server"),
        is_calibrating=lambda output: (output / TEACHER).is_dir() and not (output / CODEC_FOLDER).is_dir(),
    )


def conversations_job(folder: Path) -> Job:
    """Fifty conversations with tools and reasoning, two workers, exact states."""
    make_conversations(folder)
    return Job(
        start=lambda output: extract(conversations_config(folder, str(output), workers={"count": 2})),
        committed=num_shards,
        most=20,
        result=shard_files,
        victims=("", "ray::TeacherActor", "ray::", "raylet", "gcs_server"),
    )


def train_job(folder: Path) -> Job:
    """200 steps with dropout, a checkpoint every 5."""
    small_cache(folder)

    def start(output: Path) -> "subprocess.Popen[str]":
        asked = {
            "cache": folder / "cache",
            "output": output,
            "student": {
                "architecture": {
                    "model_type": "llama",
                    "hidden_size": 16,
                    "intermediate_size": 24,
                    "num_hidden_layers": 3,
                    "num_attention_heads": 2,
                    "attention_dropout": 0.1,
                },
                "tokenizer": "teacher",
                "max_tokens": 64,
            },
            "objective": [{"loss": "ce", "weight": 0.5}, {"loss": "sra", "weight": 0.5}],
            "steps": 200,
            "batch_size": 4,
            "checkpoint_every": 5,
            "threads": 1,
            "device": "cpu",
        }
        file = output.with_name(f"{output.name}.yaml")
        file.write_text(dump_config(TrainingConfig.model_validate(asked)), encoding="utf-8")
        return run_command(["train", str(file)], folder)

    return Job(start, _last_checkpoint, _student_files, most=200, victims=("",))


def _last_checkpoint(run: Path) -> int:
    return max((int(path.name.removeprefix("step-")) for path in (run / "checkpoints").glob("step-*")), default=0)


def _student_files(run: Path) -> dict[str, bytes]:
    return {str(path.relative_to(run)): path.read_bytes() for path in (run / "model").rglob("*") if path.is_file()}


def strike(job: Job, output: Path, seconds: float, random: Random, tally: Tally) -> int:
    """One try, killed at a random moment unless it ends before. Its exit status."""
    command = job.start(output)
    victim = random.choice(job.victims)
    before = job.committed(output)
    early = not (output / CODEC_FOLDER).is_dir() and random.random() < 0.5
    began: float | None = None
    calibrating_for = random.uniform(0, CALIBRATION_SECONDS)
    more = random.randint(before + 1, job.most) if before < job.most and random.random() < 0.7 else None
    moment = time.monotonic() + random.uniform(0, seconds)
    while command.poll() is None:
        calibrating = job.is_calibrating(output)
        began = time.monotonic() if calibrating and began is None else began
        if early and began is not None:
            is_time = time.monotonic() >= began + calibrating_for
        else:
            is_time = time.monotonic() > moment if more is None else job.committed(output) >= more
        if is_time:
            found = descendants(command.pid, victim) if victim else [psutil.Process(command.pid)]
            if found:
                random.choice(found).send_signal(signal.SIGKILL)
                tally.kills[(victim or "the command") + " while calibrating" * calibrating] += 1
                break
        time.sleep(0.01)
    said, _ = command.communicate(timeout=LIMIT_SECONDS)
    tally.ends[command.returncode] += 1
    if command.returncode not in (0, 2, -signal.SIGKILL) or "Traceback" in said:
        tally.wrong.append(f"exit {command.returncode} after killing {victim or 'the command'}:\n{said[-3000:]}")
    return command.returncode


def disturb(job: Job, folder: Path, kills: int, seed: int) -> Tally:
    """Kill, resume and compare until there were `kills` kills and the last output is finished."""
    random, tally = Random(seed), Tally()
    seconds = finish(job, folder / "undisturbed")
    wanted = job.result(folder / "undisturbed")
    print(f"undisturbed: {seconds:.0f} s, {len(wanted)} files of {sum(map(len, wanted.values())):,} bytes", flush=True)
    while sum(tally.kills.values()) < kills:
        output = folder / f"disturbed-{tally.finished}"
        tries = 0
        while sum(tally.kills.values()) < kills and strike(job, output, seconds, random, tally) != 0:
            tries += 1
        finish(job, output)
        if job.result(output) != wanted:
            tally.wrong.append(f"{output} differs from the undisturbed one")
        tally.finished += 1
        print(f"{sum(tally.kills.values())} kills, {tally.finished} outputs finished ({tries} tries)", flush=True)
        shutil.rmtree(output)
    return tally


def finish(job: Job, output: Path) -> float:
    """Run the command to its end, and tell the seconds; raises RuntimeError if it ends badly."""
    started = time.monotonic()
    command = job.start(output)
    said, _ = command.communicate(timeout=LIMIT_SECONDS)
    if command.returncode != 0:
        raise RuntimeError(f"exit {command.returncode}:\n{said}")
    return time.monotonic() - started


JOBS = {"extract": extract_job, "conversations": conversations_job, "train": train_job}


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=list(JOBS))
    parser.add_argument("--kills", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folder = Path(name)
        tally = disturb(JOBS[arguments.what](folder), folder, arguments.kills, arguments.seed)
    print(f"kills: {dict(tally.kills)}; exit statuses of the tries: {dict(tally.ends)}")
    print(f"{tally.finished} outputs finished, {len(tally.wrong)} complaints")
    print("\n".join(tally.wrong))
    return 1 if tally.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
