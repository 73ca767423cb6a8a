"""`stillroom verify`: read a whole cache and check everything that can be checked without the teacher; with it, some
samples are computed once more."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from pydantic import TypeAdapter, ValidationError

from jobs.repair import cannot_redo
from pipeline.output.elsewhere import read_begun, seen_from_outside
from schemas.cache.checksums import CHECKSUMS, open_manifest
from schemas.cache.codec_files import CODEC_FILES
from schemas.cache.index import require_index
from schemas.cache.manifest import TEACHER, CacheManifest
from schemas.cache.reader import Cache
from schemas.cache.sections import list_sections
from schemas.cache.teacher_files import TEACHER_FILES
from schemas.cache.verify import ProvenShard, SeenAddition, verify_added, verify_index, verify_shards, verify_totals
from schemas.cache.ways_out import repair, without_way_out
from schemas.configs.extraction import MaxMemory, Placement
from schemas.configs.parse import parse_yaml
from schemas.console import make_console, say
from schemas.errors import CacheError, ConfigError
from schemas.models.teacher_head import load_teacher_embedding, load_teacher_head
from schemas.progress import Progress
from schemas.shown import counted, quoted


@dataclass(frozen=True)
class ReplayOptions:
    """Which samples are computed once more, and by what."""

    samples: int
    seed: int = 0
    teacher: str | None = None  # folder or hub id; None: the hub id that the cache keeps
    adapter: str | None = None
    trust_remote_code: bool = False
    in_batch: bool = False  # in the batches of the extraction, instead of alone
    placement: Placement | None = None  # None: spread where it has no room on one device
    max_memory: Mapping[str, str] | None = None


def parse_placement(given: str) -> Placement:
    """What `--placement` names. Raises ConfigError."""
    known: tuple[Placement, ...] = get_args(Placement)
    for each in known:
        if each == given:
            return each
    raise ConfigError(f"--placement: {quoted(given)} is not known; give {' or '.join(known)}")


def parse_max_memory(given: str) -> Mapping[str, str]:
    """What `--max-memory` names: a mapping in YAML, as `teacher.max_memory`. Raises ConfigError."""
    option = "--max-memory"
    _, value = parse_yaml(given, option)
    try:
        found: Mapping[str, str] = TypeAdapter(MaxMemory).validate_python(value)
    except ValidationError as error:
        said = "; ".join(": ".join([*map(str, each["loc"][:1]), each["msg"]]) for each in error.errors())
        raise ConfigError(f"{option}: {said}; give it as '{{0: 20GB, cpu: 100GB}}', GPUs by number") from error
    return found


def run_verification(
    path: Path,
    samples: int | None,
    seed: int = 0,
    teacher: str | None = None,
    adapter: str | None = None,
    trust_remote_code: bool = False,
    in_batch: bool = False,
    placement: str | None = None,
    max_memory: str | None = None,
) -> None:
    """`replay_cache` of `samples`, or without a number `verify_cache`; the options as they were typed.

    Raises what these raise, and ConfigError for an option that cannot be read, or that nothing is replayed with.
    """
    options = ReplayOptions(
        samples or 1,
        seed,
        teacher,
        adapter,
        trust_remote_code,
        in_batch,
        None if placement is None else parse_placement(placement),
        None if max_memory is None else parse_max_memory(max_memory),
    )
    if samples is not None:
        replay_cache(path, options)
    elif options == ReplayOptions(1):
        verify_cache(path)
    else:
        raise ConfigError("all options go with --replay N: there is nothing else to choose")


def verify_cache(path: Path) -> None:
    """Print a summary if all is well. A cache under a URL is read there, and no copy of it.

    Raises CacheError with one line for every damaged shard, StorageError.
    """
    read_begun(path)
    with seen_from_outside(path) as cache:
        _verify(cache)


def _verify(path: Path) -> None:
    manifest, sealed = open_manifest(path)
    require_index(path, manifest)
    if not TEACHER_FILES.check(path):
        say(f"{path / TEACHER} was written without checksums: only its shapes and numbers are checked")
    sections = list_sections(path, manifest)
    for section in sections:
        CODEC_FILES.check(section.folder)
    load_teacher_head(path, manifest)
    load_teacher_embedding(path, manifest)
    shards, additions, problems = list[ProvenShard](), list[SeenAddition](), list[str]()
    total = manifest.units * len(sections)
    with Progress("verifying", "shards", total) as progress:
        for number, shard in enumerate(verify_shards(path, manifest, sealed), 1):
            if isinstance(shard, ProvenShard):
                shards.append(shard)
            else:
                problems.append(without_way_out(str(shard), path))
            progress.update(number)
        for number, added in enumerate(verify_added(path, manifest, sealed), manifest.units + 1):
            additions.append(added)
            problems += [] if added.problem is None else [without_way_out(str(added.problem), path)]
            progress.update(number)
    if problems:
        raise CacheError(
            f"{len(problems)} of {total} shards are damaged:\n  " + "\n  ".join(problems) + f"\n{_redo(path, manifest)}"
        )
    verify_index(path, manifest, sealed, shards)
    verify_totals(path, sealed, shards, additions)
    if sealed is None:
        say(
            f"{path} was sealed without {CHECKSUMS}: what its shards and its identity do not tell is not checked (the "
            f"teacher's name, counts of what was left out, versions); `stillroom reindex {path}` seals it as it is"
        )
    say(
        f"{path}: {counted(total, 'shard')}, {sum(shard.record.samples for shard in shards):,} samples, "
        f"{sum(shard.record.tokens for shard in shards):,} tokens; every checksum, row and number is good"
    )


def _redo(cache: Path, manifest: CacheManifest) -> str:
    """The way out of damage to some shards of a complete cache."""
    if (reason := cannot_redo(manifest)) is not None:
        return f"{cache} {reason}"
    return (
        f"{repair(cache)} drops these, and `stillroom extract` with the cache's config makes them again, byte for byte"
    )


def replay_cache(path: Path, options: ReplayOptions) -> None:
    """`verify_cache`, then print how far random samples, computed once more, are from what the cache holds of them.

    Raises ModelError: the teacher is another, which is told first; ConfigError: it cannot lie as the options ask;
    CacheError with one line for everything that is off by more than rounding explains.
    """
    from jobs.report.replay import gaps_table, other_machine, unless_experts
    from pipeline.replay.placing import Placing
    from pipeline.replay.replay import replay
    from pipeline.replay.teacher import find_teacher, load_teacher_of, require_same_files

    manifest, _ = open_manifest(path)
    folders = find_teacher(manifest, options.teacher, options.adapter)
    require_same_files(path, manifest, folders, options.trust_remote_code)
    verify_cache(path)
    placing = Placing(options.placement, options.max_memory)
    cache, teacher = Cache(path), load_teacher_of(path, manifest, folders, options.trust_remote_code, placing)
    if teacher.config.placement == "spread" and not placing.asks:
        say(f"{folders.model} has no room on one device: its layers are spread over memory and disk")
    count = min(options.samples, len(cache))
    with Progress("replaying", "samples", count) as progress:
        found = replay(cache, teacher, count, options.seed, progress.update, options.in_batch)
    make_console().print(gaps_table(found))
    if found.decoded is not None:
        said = f"on average (recorded: {found.decoded.recorded:.3g})"
        say(f"{found.decoded.path}: decoded, its predictions are off by {found.decoded.kl:.3g} nats {said}")
    how = "in its batch" if options.in_batch else "alone"
    skipped = found.not_compared
    if skipped:
        say(f"{', '.join(skipped)}: not compared, because nothing here reads the numbers of that codec")
    if faults := found.faults:
        way_out = other_machine(cache.manifest) if options.in_batch else f"extract again{unless_experts(teacher)}"
        raise CacheError(
            f"{path} does not hold what {folders.model} gives for {count:,} samples, each {how} (seed {options.seed}):"
            + "".join(f"\n  {fault}" for fault in faults)
            + f"\n{way_out}"
        )
    if len(skipped) < len(found.arrays):
        beside = " beside these" if skipped else ""
        say(f"{path}: {count:,} samples are what {folders.model} gives for each {how}{beside}")
