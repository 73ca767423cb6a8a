"""A folder of a cache, such as teacher/ and codecs/, whose files.json says what its other files hash to.

files.json is written last.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from schemas.errors import CacheError
from schemas.storage.file_record import FileRecord, check_file, describe_file, list_files
from schemas.storage.published import write_text
from schemas.storage.record import read_record
from schemas.strict import Strict

FILES = "files.json"
WEIGHTS = ".safetensors"


class FolderRecord(Strict):
    """The whole of files.json. Those of each folder have a format of their own."""

    format: str
    version: Literal[1] = 1
    files: Annotated[dict[str, FileRecord], Field(description="Every other file of the folder, by relative path.")]


@dataclass(frozen=True)
class RecordedFolder:
    """CACHE/NAME and its files.json. checksums.json holds the checksum of files.json, which holds all others."""

    name: str
    record: type[FolderRecord]

    def write_record(self, folder: Path, **fields: str) -> None:
        """Write files.json over what lies in `folder`, which becomes CACHE/NAME, with more `fields` of its own.

        Reads every byte of it once.
        """
        record = self.record.model_validate({"files": list_files(folder), **fields})
        write_text(folder / FILES, record.model_dump_json(indent=1) + "\n")

    def read_record(self, cache: Path) -> FolderRecord | None:
        """CACHE/NAME/files.json, None where there is none. Raises CacheError if it is damaged."""
        path = cache / self.name / FILES
        return read_record(path, self.record, CacheError, f"cannot check {path.parent}") if path.exists() else None

    def describe(self, cache: Path) -> FileRecord | None:
        """Size and checksum of CACHE/NAME/files.json, as checksums.json holds them; None where there is none."""
        path = cache / self.name / FILES
        return describe_file(path) if path.exists() else None

    def check_record(self, cache: Path, sealed: FileRecord | None) -> None:
        """Raises CacheError if files.json is not the one that the cache was `sealed` with; None knows nothing of it."""
        if sealed is not None:
            check_file(cache / self.name / FILES, sealed, self._way_out(cache))

    def check(self, cache: Path, weights: bool = True) -> bool:
        """Returns whether CACHE/NAME has checksums, and all is well. Reads every file of it, or all except `weights`.

        Raises CacheError: a file is missing, altered or added, files.json is damaged or of an unknown version.
        """
        record, folder = self.read_record(cache), cache / self.name
        if record is None:
            return False
        # A tokenizer is read from whatever files lie in its folder: none may be added.
        found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
        if added := sorted(found - {FILES} - record.files.keys()):
            raise CacheError(f"{folder / FILES} does not name {added[0]}, which was added to the folder; remove it")
        for name in record.files:
            if weights or not name.endswith(WEIGHTS):
                self.check_file(cache, name, record)
        return True

    def check_file(self, cache: Path, name: str, record: FolderRecord | None) -> None:
        """Raises CacheError if the file NAME is not what `record` says of it; a folder without record says nothing.

        Asked before what is left out by `check(weights=False)` is loaded.
        """
        if record is None:
            return
        if name not in record.files:
            raise CacheError(f"{cache / self.name / FILES} does not name {name}; {self._way_out(cache)}")
        check_file(cache / self.name / name, record.files[name], self._way_out(cache))

    def _way_out(self, cache: Path) -> str:
        return f"remove {cache / self.name} and extract again: no shard is redone"
