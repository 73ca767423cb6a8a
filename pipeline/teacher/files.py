"""Files that a student needs, kept in CACHE/teacher: tokenizer, config.json and unembedding, never the body.

AutoTokenizer chooses its class by the config.json beside a tokenizer, so the one that is kept is the tokenizer's: the
teacher's own, but that of the folder that `teacher.tokenizer` names, or none if there is none in it.

Takes V * d numbers in the compute dtype: 0.3 GB for a 7B model of 32,000 tokens in bfloat16; as much again for the
input embeddings, where they are asked for, also of a model that ties the two.
"""

import shutil
from pathlib import Path
from typing import Protocol

from safetensors.torch import save_file
from torch import Tensor

from schemas.cache.manifest import EMBEDDINGS, UNEMBEDDING
from schemas.cache.recorded_folder import FILES
from schemas.cache.teacher import TeacherRecord
from schemas.cache.teacher_files import TEACHER_FILES
from schemas.configs.extraction import TeacherConfig
from schemas.errors import TokenizerError
from schemas.models.files import resolve_model
from schemas.models.tokenizer import load_tokenizer, tokenizer_files
from schemas.storage.atomic import disk_full, folder_beside
from schemas.storage.published import commit_folder


class KeptTeacher(Protocol):
    """A teacher, loaded or not, as far as its files are concerned."""

    @property
    def config(self) -> TeacherConfig:
        """What the user asked for."""
        ...

    @property
    def folder(self) -> Path:
        """Where its own files lie."""
        ...

    @property
    def record(self) -> TeacherRecord:
        """Which matrices there are."""
        ...

    def head(self) -> tuple[Tensor, Tensor | None]:
        """W_U [V, d] and its bias [V]; asked for if the record has a head."""
        ...

    def embedding(self) -> Tensor:
        """The input embeddings; asked for if the record has some."""
        ...


def save_teacher_files(teacher: KeptTeacher, target: Path, owner: str = "") -> None:
    """Write the folder `target`, whole or not at all; one that is there stays. The same teacher gives the same bytes.

    Raises TokenizerError if its tokenizer cannot be loaded, or what is kept of it is another one; ModelError if a
    `teacher.tokenizer` is not found; ResourceError if the disk is full.
    """
    named = teacher.config.tokenizer
    source = teacher.folder if named is None else resolve_model(named, None)
    used = load_tokenizer(source, teacher.config.trust_remote_code)
    with disk_full(target.name, target.parent), folder_beside(target, owner) as folder:
        for file in [source / "config.json", *tokenizer_files(source)]:
            if file.is_file():
                shutil.copyfile(file, folder / file.name)
        if not _opens_as(used.backend_tokenizer.to_str(), folder):
            raise TokenizerError(
                f"the tokenizer in {source} is another one, or none, without that folder's own code, which no student "
                "runs: load it, save its `backend_tokenizer` as a tokenizer.json, and name that in `teacher.tokenizer`"
            )
        if teacher.record.head is not None:
            weight_Vd, bias_V = teacher.head()
            _save(
                {"weight": weight_Vd} if bias_V is None else {"weight": weight_Vd, "bias": bias_V}, folder / UNEMBEDDING
            )
        if teacher.record.embedding is not None:
            _save({"weight": teacher.embedding()}, folder / EMBEDDINGS)
        TEACHER_FILES.write_record(folder)
        commit_folder(folder, target, FILES)


def _opens_as(rules: str, folder: Path) -> bool:
    try:
        return bool(load_tokenizer(folder).backend_tokenizer.to_str() == rules)
    except TokenizerError:
        return False


def _save(tensors: dict[str, Tensor], path: Path) -> None:
    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, path)
