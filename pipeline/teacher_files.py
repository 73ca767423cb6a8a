"""What a student needs of its teacher, kept in CACHE/teacher: tokenizer, config.json and unembedding, never the body.

Takes V * d numbers in the compute dtype: 0.3 GB for a 7B model of 32,000 tokens in bfloat16.
"""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from safetensors.torch import save_file

from pipeline.teacher import Teacher
from schemas.manifest import UNEMBEDDING
from schemas.model_files import load_tokenizer, resolve_model, tokenizer_files


def save_teacher_files(teacher: Teacher, target: Path) -> None:
    """Write the files into `target`, each beside its place and renamed. The same teacher gives the same bytes.

    Raises TokenizerError if its tokenizer cannot be loaded, ModelError if a `teacher.tokenizer` is not found.
    """
    target.mkdir(parents=True, exist_ok=True)
    named = teacher.config.tokenizer
    tokenizer = teacher.folder if named is None else resolve_model(named, None)
    load_tokenizer(tokenizer, teacher.config.trust_remote_code)  # what is copied must be of use
    for source in [teacher.folder / "config.json", *tokenizer_files(tokenizer)]:
        _place(target / source.name, lambda path, source=source: shutil.copyfile(source, path))  # type: ignore[misc]
    if teacher.record.head is not None:
        weight_Vd, bias_V = teacher.head()
        tensors = {"weight": weight_Vd} if bias_V is None else {"weight": weight_Vd, "bias": bias_V}
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        _place(target / UNEMBEDDING, lambda path: save_file(tensors, path))


def _place(path: Path, write: Callable[[Path], object]) -> None:
    """Write beside, flush to disk, rename: a reader sees the whole file or none."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        write(beside)
        with beside.open("rb+") as file:
            os.fsync(file.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
