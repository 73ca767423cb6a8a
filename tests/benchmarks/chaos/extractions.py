"""Disturbed extractions: on a Ray of their own, on a cluster of two raylets, and into S3."""

import json
import shutil
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random

from schemas.configs.extraction import ExtractionConfig
from schemas.configs.yaml import dump_config
from tests.benchmarks.chaos.disks import Disk
from tests.benchmarks.chaos.trial import Started, Tally, interrupt, judge, terminate, until
from tests.buckets import Bucket, Server
from tests.pipeline.cluster.running import config, descendants, shard_files

UNITS = 24
FULL = ("no space left", "free on the disk", "are free")
READ_ONLY = ("Read-only file system", "may not be written to")
KILLED = -signal.SIGKILL


@dataclass(frozen=True)
class Event:
    """What happens to a try, and what its command may answer."""

    strike: Callable[[Started, Path], bool]  # False: there is nothing to strike yet
    allowed: Sequence[int] = (0, 2)
    says: Sequence[str] = ()
    mend: Callable[[Path], None] = lambda output: None


@dataclass(frozen=True)
class Scene:
    """Where extractions are disturbed."""

    start: Callable[[Path], Started]
    committed: Callable[[Path], dict[str, bytes]]  # shard.json of every shard
    result: Callable[[Path], dict[str, bytes]]
    remove: Callable[[Path], None]
    events: dict[str, Event]
    look_seconds: float = 0.01


def kills(random: Random) -> dict[str, Event]:
    """Of a Ray below the command."""

    def victim(named: str) -> Callable[[Started, Path], bool]:
        def strike(started: Started, output: Path) -> bool:
            found = descendants(started.process.pid, named)
            if found:
                random.choice(found).kill()
            return bool(found)

        return strike

    return {
        "actor killed": Event(victim("ray::TeacherActor")),
        "worker killed": Event(victim("ray::")),
        "raylet killed": Event(victim("raylet"), says=("Ray has died",)),
        "GCS killed": Event(victim("gcs_server"), says=("Ray has died",)),
        "driver killed": driver_killed(),
        "driver SIGTERM": Event(lambda started, output: terminate(started), (130, -signal.SIGTERM)),
        "driver Ctrl-C": Event(lambda started, output: interrupt(started), (130, -signal.SIGINT)),
    }


def driver_killed() -> Event:
    def strike(started: Started, output: Path) -> bool:
        started.process.kill()
        return True

    return Event(strike, (KILLED,))


def disks(disk: Disk, random: Random) -> dict[str, Event]:
    """Of a disk that fills up, and of one that may not be written to."""

    def fill(started: Started, output: Path) -> bool:
        if output.exists():
            disk.fill(leave=random.choice([0, 4096, 20_000]))
        return output.exists()

    def forbid(started: Started, output: Path) -> bool:
        if output.exists():
            disk.forbid(output)
        return output.exists()

    return {
        "disk full": Event(fill, says=FULL, mend=disk.mend),
        "disk read-only": Event(forbid, says=READ_ONLY, mend=disk.mend),
    }


def local_scene(folder: Path, disk: Disk, random: Random) -> Scene:
    """A Ray of its own, and an output on a small disk."""
    return Scene(
        start=lambda output: start(config(folder, str(output), workers={"count": 2}), folder),
        committed=committed,
        result=shard_files,
        remove=lambda output: shutil.rmtree(output, ignore_errors=True),
        events=kills(random) | disks(disk, random),
    )


def start(asked: ExtractionConfig, folder: Path, environment: dict[str, str] | None = None) -> Started:
    file = folder / "chaos.yaml"
    file.write_text(dump_config(asked), encoding="utf-8")
    return Started(["extract", str(file)], folder, environment)


def committed(cache: Path) -> dict[str, bytes]:
    return {path.parent.name: path.read_bytes() for path in (cache / "shards").glob("[0-9]*/shard.json")}


@contextmanager
def two_nodes(folder: Path, random: Random) -> Iterator[Scene]:
    """A cluster whose second raylet is killed with all that runs on it, and started again."""
    from ray.cluster_utils import Cluster

    options = {"num_cpus": 2, "object_store_memory": 100 * 2**20}
    cluster = Cluster(initialize_head=True, head_node_args=options | {"include_dashboard": False})
    nodes = [cluster.add_node(**options)]

    def strike(started: Started, output: Path) -> bool:
        raylet = nodes[0].all_processes["raylet"][0].process.pid
        if not descendants(raylet, "ray::"):
            return False
        for process in descendants(raylet, "ray::"):
            process.kill()
        cluster.remove_node(nodes.pop(), allow_graceful=False)
        return True

    def mend(output: Path) -> None:
        nodes.append(cluster.add_node(**options))

    workers = {"count": 2, "address": cluster.address}
    try:
        yield Scene(
            start=lambda output: start(config(folder, str(output), workers=workers), folder),
            committed=committed,
            result=shard_files,
            remove=lambda output: shutil.rmtree(output, ignore_errors=True),
            events={"node of two killed": Event(strike, mend=mend)},
        )
    finally:
        cluster.shutdown()


def s3_scene(folder: Path, random: Random) -> Scene:
    """Into a bucket of a real server, of whose answers 5 % are errors and 5 % never come; half the drivers die, too."""
    server = Server.only()
    bucket, door = server.bucket(), server.door
    door.errors, door.silent = 0.05, lambda method, path: random.random() < 0.05
    environment = server.settings() | {
        "STILLROOM_CACHE": str(folder / "copies"),
        "FSSPEC_S3": json.dumps({"config_kwargs": {"read_timeout": 1}}),
    }

    def url(output: Path) -> str:
        return f"{bucket.url}/{output.name}"

    def files(output: Path) -> dict[str, bytes]:
        return _read(
            bucket, output.name, lambda name: name.startswith(("shards/", "teacher/")) or name == "index.parquet"
        )

    def started(output: Path) -> Started:
        asked = config(folder, str(folder / "unused"), workers={"count": 2}).model_dump(mode="json")
        return start(ExtractionConfig.model_validate(asked | {"output": url(output)}), folder, environment)

    return Scene(
        start=started,
        committed=lambda output: _read(bucket, output.name, lambda name: name.endswith("/shard.json")),
        result=files,
        remove=lambda output: None,
        events={
            "S3 fails at 5 %": Event(lambda started, output: True, (0,)),
            "S3 fails at 5 %, driver killed": driver_killed(),
        },
        look_seconds=0.5,
    )


def _read(bucket: Bucket, below: str, wanted: Callable[[str], bool]) -> dict[str, bytes]:
    keys = [key for key in bucket.keys(f"{below}/") if wanted(key.removeprefix(f"{below}/"))]
    return {key.removeprefix(f"{below}/"): bucket.get(key) for key in keys}


def disturb(scene: Scene, outputs: Path, wanted: dict[str, bytes], events: int, random: Random, tally: Tally) -> None:
    """Strike `events` times; every output is gone on with until it is finished, and then it must be what is wanted."""
    kinds = [kind for _ in range(-(-events // len(scene.events))) for kind in scene.events][:events]
    random.shuffle(kinds)
    number, seen = 0, list[str]()
    while kinds or seen:
        output = outputs / f"disturbed-{number}"
        code = 1
        while code != 0:
            kind = kinds.pop() if kinds and len(seen) < 4 else ""
            code, struck = _try(scene, output, kind, random, tally)
            if kind and not struck:
                kinds.insert(0, kind)
            seen += [kind] if struck else []
            if not kind and code != 0:
                break
        for kind in set(seen):
            tally.compared[kind] += 1
        if code == 0 and scene.result(output) != wanted:
            tally.complain(" + ".join(seen), f"{output.name} differs from what was never disturbed")
        scene.remove(output)
        number, seen = number + 1, []


def _try(scene: Scene, output: Path, kind: str, random: Random, tally: Tally) -> tuple[int, bool]:
    event = scene.events.get(kind)
    before = scene.committed(output)
    began, started, struck = time.monotonic(), scene.start(output), False
    if event is not None:
        more = random.randint(len(before) + 1, UNITS) if len(before) < UNITS and random.random() < 0.7 else None
        moment = time.monotonic() + random.uniform(0, 20)

        def is_time() -> bool:
            due = time.monotonic() > moment if more is None else len(scene.committed(output)) >= more
            return due and event.strike(started, output)

        struck = until(started, is_time, scene.look_seconds)
        (tally.events if struck else tally.missed)[kind] += 1
    ended = started.end()
    if event is not None:
        event.mend(output)
        judge(kind, ended, (*event.allowed, 0), tally, event.says)
    else:
        judge("resumed", ended, (0,), tally)
    after = scene.committed(output)
    if lost := [name for name, record in before.items() if after.get(name) != record]:
        tally.complain(kind, f"{output.name} has lost {lost}, which were committed")
    print(f"{kind or 'finished':<34}{len(before):>3} -> {len(after):>3} units, status {ended.code}, "
          f"{time.monotonic() - began:.0f} s", flush=True)  # fmt: skip
    return ended.code, struck
