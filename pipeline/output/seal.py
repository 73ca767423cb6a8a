"""The end of an extraction: every shard is there, and the cache is sealed over them. And the same over shards that are
there, without an extraction."""

from collections.abc import Mapping
from pathlib import Path

from pipeline.output.elsewhere import bring_folders
from pipeline.output.resume import Output
from schemas.cache.checksums import Checksums, read_checksums
from schemas.cache.hollow import bring_samples, bring_shard
from schemas.cache.index import write_index
from schemas.cache.manifest import CacheManifest
from schemas.cache.sections import Section, list_sections
from schemas.cache.seen_shard import SeenShard, look_at_shard, whole_units
from schemas.models.teacher_seal import cover_teacher
from schemas.storage.published import published_at


def seal(output: Output, manifest: CacheManifest) -> dict[int, SeenShard]:
    """Write the index over the shards that were there and those that came; returns all units, as `whole_units` does.

    Raises CacheError: something is missing or damaged; ResourceError: the disk is full; StorageError.
    """
    cache = output.cache
    output.adopt(manifest)
    bring_folders(cache, manifest)
    cover_teacher(cache, manifest)
    seen = {s.number: _look_at_all(s, output.seen[s.number]) for s in list_sections(cache, manifest)}
    bring_samples(cache, seen[0])
    write_index(cache, manifest, seen)
    return whole_units(seen)


def seal_again(cache: Path, manifest: CacheManifest) -> int:
    """Make the index anew from the shards, which lie here if the cache is published, and return how many samples there
    are.

    Raises as `seal` does, and CacheError: something is not what the cache was sealed with before.
    """
    cover_teacher(cache, manifest)
    if published_at(cache) is None:
        return write_index(cache, manifest)
    sealed, sections = read_checksums(cache, manifest), list_sections(cache, manifest)
    seen = {section.number: _look_at_all(section, {}, sealed) for section in sections}
    bring_samples(cache, seen[0])
    return write_index(cache, manifest, seen)


def _look_at_all(
    section: Section, seen: Mapping[int, SeenShard], sealed: Checksums | None = None
) -> dict[int, SeenShard]:
    """Every shard of a section, of which some were `seen`."""
    of_section = None if sealed is None else sealed.of(section.number)
    found = dict(seen)
    for unit in range(section.manifest.units):
        if unit not in found:
            bring_shard(section.folder, unit)  # of a worker on another machine
            found[unit] = look_at_shard(section.folder, unit, section.manifest, of_section)
    return found
