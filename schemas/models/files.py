"""A model's folder: found locally, made of a GGUF file or fetched from the hub, its JSON read.

Pipeline and trainer load models of their own, but find and judge folders alike. No torch here; transformers and
huggingface_hub are imported where they are used.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from schemas.errors import ModelError, StillroomError
from schemas.storage.copied_files import copy_files
from schemas.storage.record import parse_object, read_content
from schemas.storage.regular import require_utf8
from schemas.storage.remote import is_remote

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "vocab.txt",
    "tokenizer.model",
    "spiece.model",
    "sentencepiece.bpe.model",
    "chat_template.jinja",
)
_FETCHED = ["*.safetensors", "*.json", "*.py", *(name for name in TOKENIZER_FILES if not name.endswith(".json"))]
_FETCHED_OF_MODULES = ["[0-9]_*/config.json"]
_NOT_FETCHED = ["*/*", "consolidated*"]  # other formats of the same weights


def resolve_model(name: str, revision: str | None) -> Path:
    """The folder of the model, tokenizer or adapter `name`: an existing local folder, one that stands for a local GGUF
    file, the same of a URL's copy, or else a snapshot of the hub id.

    What is local wins and touches no network. Raises ModelError: no such folder, a name that cannot be one, no such
    id, hub not reachable, a GGUF file that cannot be read; StorageError of a URL.
    """
    from schemas.models.gguf_folder import gguf_folder, is_gguf

    if is_remote(name):
        return _copy_model(name)
    try:
        local = Path(name).expanduser()
        if local.is_dir():
            return local.resolve()
        if is_gguf(local):
            return gguf_folder(local)
        is_path = local.is_absolute() or local.exists() or name.startswith((".", "~")) or name.count("/") > 1
    except (OSError, RuntimeError) as error:  # the latter for the home of a user who is not there
        raise ModelError(f"cannot look for a model folder {name}: {brief(error)}; give an existing one") from error
    if is_path:
        raise ModelError(
            f"there is no model folder {name}; give an existing folder, a GGUF file, or a hub id such as gpt2"
        )
    from huggingface_hub import snapshot_download

    try:
        folder = Path(snapshot_download(name, revision=revision, allow_patterns=_FETCHED, ignore_patterns=_NOT_FETCHED))
        if (folder / "modules.json").is_file():  # a sentence encoder, which says in folders below how it pools
            folder = Path(snapshot_download(name, revision=folder.name, allow_patterns=_FETCHED_OF_MODULES))
        return folder
    # The client passes on errors of whatever HTTP library it uses, so no narrower class will do.
    except Exception as error:
        at = "" if revision is None else f" at revision {revision}"
        raise ModelError(
            f"{name} is not a local folder, and the hub gave no model {name}{at} ({brief(error)}); "
            "check the name and, for a gated model, your login; without network, give a local folder"
        ) from error


def _copy_model(url: str) -> Path:
    from schemas.models.gguf_folder import gguf_folder, is_gguf

    try:
        folder = copy_files(url)
    except ValueError as error:
        raise ModelError(str(error)) from error
    if is_gguf(folder):
        return gguf_folder(folder)
    if not folder.is_dir():
        raise ModelError(f"there is no model folder {url}; give an existing one")
    return folder


MODEL_FILE_BYTES = 128 << 20  # a large vocabulary takes 35 MB


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object of a model folder, of bounded size and depth. Raises ModelError."""
    return parse_object(read_content(path, ModelError, f"{path.parent} is not a whole model"), path, ModelError)


def require_small_files(folder: Path, raises: type[StillroomError]) -> None:
    """Raises `raises` if a file that transformers would read whole is not a regular one, or above 128 MiB, or if it
    could not open the folder by its name."""
    require_utf8(folder, raises)
    for path in sorted(path for path in folder.glob("*") if path.suffix in (".json", ".txt", ".model", ".jinja")):
        if path.exists() and not path.is_file():
            raise raises(f"cannot read {path}: it is not a regular file")
        if path.exists() and path.stat().st_size > MODEL_FILE_BYTES:
            raise raises(f"cannot read {path}: it is larger than the {MODEL_FILE_BYTES:,} bytes such a file may have")


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """No bars and no reports while transformers loads: what is wrong is raised, not logged."""
    from transformers.utils import logging

    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def brief(error: BaseException) -> str:
    """What a library's error says, in one line of at most 400 characters: some list every model there is."""
    text = " ".join(str(error).split())
    return (text if len(text) <= 400 else f"{text[:399]}…") or type(error).__name__
