"""CACHE/codecs while a cache is being made: whether it is still to be calibrated, and whether it is the cache's own."""

from collections.abc import Mapping
from pathlib import Path

from pipeline.teacher.wanted import WantedStates
from schemas.cache.checksums import require_own_codecs
from schemas.cache.codec_files import CODEC_FILES, CODEC_FOLDER, CodecFiles
from schemas.cache.manifest import CacheManifest
from schemas.cache.seen_shard import SeenShard
from schemas.errors import CacheError


def needs_calibration(cache: Path, manifest: CacheManifest) -> bool:
    """Returns whether codecs of a section are calibrated, and that is still to be done. `cache` is its folder."""
    return WantedStates.of_cache(manifest).is_calibrated and not (cache / CODEC_FOLDER).exists()


def require_same_codecs(cache: Path, manifest: CacheManifest, shards: Mapping[int, SeenShard]) -> None:
    """Raises CacheError unless codecs/ of a section, if it is there, is whole, this request's, and what all `shards`
    were encoded by. No shard is touched for it."""
    if not (cache / CODEC_FOLDER).exists():
        return
    record = CODEC_FILES.read_record(cache)
    if not isinstance(record, CodecFiles) or record.fingerprint != manifest.fingerprint_of(0):
        raise CacheError(
            f"{cache / CODEC_FOLDER} was not calibrated for this cache, or not to its end; remove it and extract "
            "again: it is made anew, and no shard is redone"
        )
    for unit, shard in shards.items():
        require_own_codecs(cache, unit, shard.record)
    CODEC_FILES.check(cache)
