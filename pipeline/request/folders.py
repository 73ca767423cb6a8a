"""Where a teacher's files lie on this machine, and what proves that they are the same on another."""

from dataclasses import dataclass
from pathlib import Path

from schemas.configs.extraction import ExtractionConfig
from schemas.models.files import resolve_model
from schemas.models.hashes import hash_model, hash_tokenizer
from schemas.storage.fingerprint import hash_files

# Name, inode, size and time of change of every file of a teacher.
Stamps = tuple[tuple[str, int, int, int], ...]


@dataclass(frozen=True)
class ModelFolders:
    """Where the teacher's files lie on this machine."""

    model: Path
    tokenizer: Path
    adapter: Path | None

    def stamps(self) -> Stamps:
        """Marks that tell these files from others without reading them."""
        paths = {path for path in (*self.model.iterdir(), *self.tokenizer.iterdir()) if path.is_file()}
        paths.update(_files_below(self.adapter) if self.adapter else ())
        found = ((str(path), path.stat()) for path in sorted(paths))
        return tuple((name, stat.st_ino, stat.st_size, stat.st_mtime_ns) for name, stat in found)


def find_folders(config: ExtractionConfig) -> ModelFolders:
    """The teacher's folders on this machine, fetched from the hub where they are not local."""
    teacher = config.teacher
    model = resolve_model(teacher.model, teacher.revision)
    tokenizer = model if teacher.tokenizer is None else resolve_model(teacher.tokenizer, None)
    adapter = None if teacher.adapter is None else resolve_model(teacher.adapter, None)
    return ModelFolders(model, tokenizer, adapter)


def hash_teacher(folders: ModelFolders, trust_remote_code: bool) -> dict[str, str | None]:
    """Hashes by part, as they stand in a cache's identity. Reads every weight once."""
    adapter = folders.adapter
    return {
        **hash_model(folders.model, trust_remote_code),
        "tokenizer": hash_tokenizer(folders.tokenizer),
        "adapter": None if adapter is None else hash_files(adapter, _files_below(adapter)),
    }


def _files_below(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())
