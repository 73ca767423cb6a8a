"""Chaos: sixty random events that strike real runs, and what is resumed afterwards.

    python -m tests.benchmarks.chaos [extract] [nodes] [s3] [commands] [--events 60] [--seed 0]

Events: SIGKILL of a worker, an actor, the driver, the raylet, the GCS, or a node of two; a full disk and a read-only
one (a tmpfs and a mount that the kernel enforces: this takes root); an S3 server of whose answers 5 % are errors and
5 % never come; SIGTERM and Ctrl-C in every command. Seven of ten strike once some more units are committed, the others
at a random time.

Afterwards the same command goes on until it is finished. Wrong is: a byte that differs from what was never disturbed;
a shard that was committed and is gone; a traceback; anything but one message; a status that is none of the event's; a
process that is left behind, or a command that hangs. Exits 1 if anything is.
"""

import argparse
import signal
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from random import Random

from tests.benchmarks.chaos.commands import COMMANDS, disturb_commands
from tests.benchmarks.chaos.disks import small_disk
from tests.benchmarks.chaos.extractions import Scene, disturb, local_scene, s3_scene, two_nodes
from tests.benchmarks.chaos.trial import Tally
from tests.pipeline.cluster.running import make_inputs

SHARES = {"extract": 0.4, "nodes": 0.1, "s3": 0.1, "commands": 0.4}  # of all events
DISK_MEBIBYTES = 320  # of which an extraction leaves 256 free


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenes", nargs="*", choices=[*SHARES, []], default=list(SHARES))
    parser.add_argument("--events", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--commands", nargs="*", choices=list(COMMANDS), help="left out, as many as it takes")
    parser.add_argument("--kinds", nargs="*", help="of a scene's events only those whose names hold one of these")
    asked = parser.parse_args()
    random, tally = Random(asked.seed), Tally()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # which a shell's background ignores, and hands on
    whole = sum(SHARES[name] for name in asked.scenes)
    with tempfile.TemporaryDirectory(prefix="chaos-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        make_inputs(folder)
        for scene in asked.scenes:
            events = round(asked.events * SHARES[scene] / whole)
            if scene == "commands":
                names = asked.commands or random.sample(list(COMMANDS), min(-(-events // 2), len(COMMANDS)))
                disturb_commands(folder, names, random, tally)
            elif scene == "extract":
                with small_disk(folder / "disk", DISK_MEBIBYTES) as disk:
                    run(local_scene(folder, disk, random), disk.folder, events, asked.kinds, random, tally)
            elif scene == "nodes":
                with two_nodes(folder, random) as nodes:
                    run(nodes, folder, events, asked.kinds, random, tally)
            else:
                run(s3_scene(folder, random), folder / "s3", events, asked.kinds, random, tally)
    print(tally.table())
    return 1 if tally.wrong else 0


def run(scene: Scene, outputs: Path, events: int, kinds: list[str] | None, random: Random, tally: Tally) -> None:
    """The undisturbed one first, which says what is wanted."""
    if kinds:
        chosen = {kind: event for kind, event in scene.events.items() if any(part in kind for part in kinds)}
        scene = replace(scene, events=chosen)
    undisturbed = outputs / "undisturbed"
    ended = scene.start(undisturbed).end()
    if ended.code != 0:
        raise SystemExit(f"the undisturbed extraction failed:\n{ended.said}")
    wanted = scene.result(undisturbed)
    print(f"undisturbed: {len(wanted)} files of {sum(map(len, wanted.values())):,} bytes", flush=True)
    scene.remove(undisturbed)
    disturb(scene, outputs, wanted, events, random, tally)


if __name__ == "__main__":
    sys.exit(main())
