"""teacher/files.json: checksums of what a cache keeps of its teacher. The folder's last file to be written."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from schemas.cache.manifest import TEACHER
from schemas.cache.shard import FileRecord, list_files
from schemas.errors import CacheError
from schemas.storage.fingerprint import hash_file
from schemas.storage.record import read_record
from schemas.strict import Strict

FILES = "files.json"


class TeacherFiles(Strict):
    """The whole of teacher/files.json."""

    format: Literal["stillroom-teacher"] = "stillroom-teacher"
    version: Literal[1] = 1
    files: Annotated[dict[str, FileRecord], Field(description="Every other file of the folder, by relative path.")]


def record_teacher_files(teacher: Path) -> None:
    """Write files.json over what lies in the folder `teacher`. Reads every byte of it once."""
    record = TeacherFiles(files=list_files(teacher))
    (teacher / FILES).write_text(record.model_dump_json(indent=1) + "\n", encoding="utf-8")


def check_teacher_files(cache: Path) -> bool:
    """Whether CACHE/teacher has checksums; caches made before there was files.json have none.

    Raises CacheError: a file is missing or altered, files.json is damaged or of an unknown version.
    """
    teacher = cache / TEACHER
    if not (teacher / FILES).exists():
        return False
    record = read_record(teacher / FILES, TeacherFiles, CacheError, f"cannot check {teacher}")
    for name, file in record.files.items():
        path = teacher / name
        if not path.is_file() or (path.stat().st_size, hash_file(path)) != (file.bytes, file.sha256):
            state = "does not have its checksum" if path.is_file() else "is missing"
            raise CacheError(f"{path} {state}; remove {teacher} and extract again: no shard is redone")
    return True
