"""codecs/: what codecs were calibrated to, one file per array. files.json holds the checksums of these files."""

from pathlib import Path
from typing import Literal

from schemas.cache.arrays import ArrayRecord
from schemas.cache.recorded_folder import FolderRecord, RecordedFolder

CODEC_FOLDER = "codecs"


class CodecFiles(FolderRecord):
    """The whole of codecs/files.json."""

    format: Literal["stillroom-codecs"] = "stillroom-codecs"
    fingerprint: str | None = None
    """Of the cache that they were calibrated for."""


CODEC_FILES = RecordedFolder(CODEC_FOLDER, CodecFiles)


def codec_file(array: ArrayRecord) -> str:
    """The name of the tables of one array, e.g. hidden-12.safetensors."""
    return f"{array.path.replace('/', '-')}.safetensors"


def codecs_sha256(cache: Path) -> str | None:
    """What codecs/files.json hashes to, as shards say that were encoded by its tables; None where there is none."""
    record = CODEC_FILES.describe(cache)
    return None if record is None else record.sha256
