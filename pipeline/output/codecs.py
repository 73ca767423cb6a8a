"""CACHE/codecs while a cache is being made: whether it is still to be calibrated, and whether it is the shards' own."""

from collections.abc import Mapping
from pathlib import Path

from pipeline.teacher.wanted import WantedStates
from schemas.cache.codec_files import CODEC_FOLDER, codecs_sha256
from schemas.cache.manifest import CacheManifest
from schemas.cache.seen_shard import SeenShard
from schemas.errors import CacheError


def needs_calibration(cache: Path, manifest: CacheManifest) -> bool:
    """Returns whether codecs of the cache are calibrated, and that is still to be done."""
    return WantedStates.of_cache(manifest).is_calibrated and not (cache / CODEC_FOLDER).is_dir()


def require_same_codecs(cache: Path, shards: Mapping[int, SeenShard]) -> None:
    """Raises CacheError unless CACHE/codecs, if it is there, is what all `shards` were encoded by."""
    found = codecs_sha256(cache)
    others = [unit for unit, shard in shards.items() if shard.record.codecs != found]
    if found is not None and others:
        raise CacheError(
            f"shard {others[0]} was encoded by other tables than {cache / CODEC_FOLDER} holds; remove that folder and "
            "extract again, under the versions that cache.json names: the same tables are made anew, and no shard is "
            f"redone. If that does not help, remove {cache} to start anew"
        )
