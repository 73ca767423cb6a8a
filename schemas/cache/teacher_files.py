"""teacher/: what a cache keeps of its teacher. files.json holds its checksums; caches made before that have none."""

from typing import Literal

from schemas.cache.manifest import TEACHER
from schemas.cache.recorded_folder import FolderRecord, RecordedFolder


class TeacherFiles(FolderRecord):
    """The whole of teacher/files.json."""

    format: Literal["stillroom-teacher"] = "stillroom-teacher"


TEACHER_FILES = RecordedFolder(TEACHER, TeacherFiles)
