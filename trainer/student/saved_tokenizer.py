"""A student's tokenizer beside its model, such that AutoTokenizer opens the one that it was trained with.

AutoTokenizer chooses a class by the model's config.json, and for some models (Qwen2) against what the tokenizer's own
files say: then it tokenizes by the rules of that model's first tokenizer. So what was saved is opened again and
compared. That costs two to five seconds for a vocabulary of 150,000.
"""

import json
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from transformers import PreTrainedTokenizerBase

from schemas.errors import ResourceError, TokenizerError
from schemas.models.files import quiet_transformers, read_json
from schemas.models.tokenizer import load_chosen_tokenizer
from schemas.models.tokenizer_rules import same_tokenizer
from schemas.storage.atomic import system_error

PLAIN = Path(__file__).with_name("plain_tokenizer.py")


def save_tokenizer(tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Save `tokenizer` into `folder`, which holds the model's config.json.

    If AutoTokenizer would open another one there, or none without code of its own, its class is pinned, which
    AutoTokenizer heeds with remote code and without. Raises TokenizerError if even then it would open another.
    """
    with quiet_transformers():
        tokenizer.save_pretrained(folder)
    if _opens_as(tokenizer, folder):
        return
    _pin(folder)
    if not _opens_as(tokenizer, folder):
        raise TokenizerError(
            f"beside this student's config.json, AutoTokenizer does not open the {type(tokenizer).__name__} that it is "
            "to be trained with, but another: take another `student.tokenizer`, or another architecture"
        )


def _pin(folder: Path) -> None:
    """Name the class. AutoTokenizer heeds `tokenizer_class` only beside `auto_map`, so both are written."""
    path = folder / "tokenizer_config.json"
    plain = [None, f"{PLAIN.stem}.PlainTokenizer"]  # no slow one
    pinned = {"tokenizer_class": "TokenizersBackend", "auto_map": {"AutoTokenizer": plain}}
    path.write_text(json.dumps(read_json(path) | pinned, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    shutil.copyfile(PLAIN, folder / PLAIN.name)


def _opens_as(tokenizer: PreTrainedTokenizerBase, folder: Path) -> bool:
    try:
        return same_tokenizer(tokenizer, load_chosen_tokenizer(folder))
    except TokenizerError:  # it needs code of its own, which whoever opens the student need not trust
        return False


def require_savable(tokenizer: PreTrainedTokenizerBase, config: Any) -> None:
    """Raises TokenizerError if `save_tokenizer` would, beside a model of this transformers config; ResourceError if no
    temporary file can be written."""
    try:
        with TemporaryDirectory() as folder:
            config.save_pretrained(folder)
            save_tokenizer(tokenizer, Path(folder))
    # The Rust tokenizers raise bare Exception for a system's error.
    except Exception as error:
        if not system_error(error):
            raise
        raise ResourceError(
            f"cannot write the student's tokenizer to a temporary folder to open it again: {error}; free space there, "
            "or let TMPDIR name another folder"
        ) from error
