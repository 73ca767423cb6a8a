"""What a student needs of its teacher, kept in CACHE/teacher: tokenizer, config.json and unembedding, never the body.

Takes V * d numbers in the compute dtype: 0.3 GB for a 7B model of 32,000 tokens in bfloat16; as much again for the
input embeddings, where they are asked for, also of a model that ties the two.
"""

import shutil
from pathlib import Path

from safetensors.torch import save_file
from torch import Tensor

from pipeline.teacher import Teacher
from schemas.files import commit_folder, disk_full, folder_beside
from schemas.manifest import EMBEDDINGS, UNEMBEDDING
from schemas.model_files import load_tokenizer, resolve_model, tokenizer_files
from schemas.teacher_files import record_teacher_files


def save_teacher_files(teacher: Teacher, target: Path) -> None:
    """Write the folder `target`, whole or not at all; one that is there stays. The same teacher gives the same bytes.

    Raises TokenizerError if its tokenizer cannot be loaded, ModelError if a `teacher.tokenizer` is not found,
    ResourceError if the disk is full.
    """
    named = teacher.config.tokenizer
    tokenizer = teacher.folder if named is None else resolve_model(named, None)
    load_tokenizer(tokenizer, teacher.config.trust_remote_code)  # what is copied must be of use
    with disk_full(target.name, target.parent), folder_beside(target) as folder:
        for source in [teacher.folder / "config.json", *tokenizer_files(tokenizer)]:
            shutil.copyfile(source, folder / source.name)
        if teacher.record.head is not None:
            weight_Vd, bias_V = teacher.head()
            _save(
                {"weight": weight_Vd} if bias_V is None else {"weight": weight_Vd, "bias": bias_V}, folder / UNEMBEDDING
            )
        if teacher.record.embedding is not None:
            _save({"weight": teacher.embedding()}, folder / EMBEDDINGS)
        record_teacher_files(folder)
        commit_folder(folder, target)


def _save(tensors: dict[str, Tensor], path: Path) -> None:
    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, path)
