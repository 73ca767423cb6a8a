"""teacher/files.json: checksums of what a cache keeps of its teacher. The folder's last file to be written."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from schemas.cache.manifest import TEACHER
from schemas.errors import CacheError
from schemas.storage.atomic import write_text
from schemas.storage.file_record import FileRecord, check_file, list_files
from schemas.storage.record import read_record
from schemas.strict import Strict

FILES = "files.json"
WEIGHTS = ".safetensors"


class TeacherFiles(Strict):
    """The whole of teacher/files.json."""

    format: Literal["stillroom-teacher"] = "stillroom-teacher"
    version: Literal[1] = 1
    files: Annotated[dict[str, FileRecord], Field(description="Every other file of the folder, by relative path.")]


def record_teacher_files(teacher: Path) -> None:
    """Write files.json over what lies in the folder `teacher`, whole or not at all. Reads every byte of it once."""
    record = TeacherFiles(files=list_files(teacher))
    write_text(teacher / FILES, record.model_dump_json(indent=1) + "\n")


def read_teacher_files(cache: Path) -> TeacherFiles | None:
    """teacher/files.json, None in a cache made before it existed. Raises CacheError if it is damaged."""
    path = cache / TEACHER / FILES
    return read_record(path, TeacherFiles, CacheError, f"cannot check {path.parent}") if path.exists() else None


def check_teacher_files(cache: Path, weights: bool = True) -> bool:
    """Returns whether CACHE/teacher has checksums, and all is well. Reads every file of it, or all except `weights`.

    Raises CacheError: a file is missing, altered or added, files.json is damaged or of an unknown version.
    """
    record = read_teacher_files(cache)
    if record is not None:  # tokenizers are read from whatever files lie there: none may be added
        teacher = cache / TEACHER
        found = {path.relative_to(teacher).as_posix() for path in teacher.rglob("*") if path.is_file()}
        if added := sorted(found - {FILES} - record.files.keys()):
            raise CacheError(f"{teacher / FILES} does not name {added[0]}, which was added to the folder; remove it")
    for name in [] if record is None else record.files:
        if weights or not name.endswith(WEIGHTS):
            check_teacher_file(cache, name, record)
    return record is not None


def check_teacher_file(cache: Path, name: str, record: TeacherFiles | None) -> None:
    """Raises CacheError if teacher/NAME is not what `record` says of it; a folder without record says nothing."""
    teacher = cache / TEACHER
    way_out = f"remove {teacher} and extract again: no shard is redone"
    if record is not None:
        if name not in record.files:
            raise CacheError(f"{teacher / FILES} does not name {name}; {way_out}")
        check_file(teacher / name, record.files[name], way_out)
