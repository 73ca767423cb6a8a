"""A GGUF file as the folder of a model: config.json and the tokenizer as transformers reads them from it, and a link to
the file in place of its weights.

So everything that reads a model's folder reads a GGUF file. The folder lies among the copies of what is elsewhere,
below HOME/.gguf, and is made again when the file changes or another transformers reads it. Costs up to a minute for
a vocabulary of 262,144 without merges, once.
"""

import json
import logging
import os
from importlib.metadata import version
from pathlib import Path
from typing import Any

from schemas.errors import ModelError
from schemas.models.files import brief, quiet_transformers
from schemas.models.gguf_header import GgufHeader, read_gguf_header
from schemas.models.weights import GGUF
from schemas.storage.copies import Made, Thing, open_copies
from schemas.storage.remote import gguf_path

logger = logging.getLogger(__name__)

_READERS = ("transformers", "tokenizers")  # another version of these may make another config or tokenizer


def is_gguf(path: Path) -> bool:
    """Whether it is a file of that name; not whether it can be read."""
    return path.suffix.lower() == ".gguf" and path.is_file()


def gguf_folder(file: Path) -> Path:
    """The folder of a model that stands for `file`.

    Raises ModelError: it is damaged, of an architecture that transformers does not read, or says what transformers
    would leave out; StorageError: no folder can be made for it.
    """
    file = Path(os.path.abspath(file))
    folder, stat = gguf_path(file), file.stat()
    read_by = " ".join(f"{name} {version(name)}" for name in _READERS)
    state = f"{stat.st_ino} {stat.st_size} {stat.st_mtime_ns} {read_by}"

    def make() -> Made:
        header = read_gguf_header(file)
        return Made(header.bytes, lambda target: _unpack(file, header, target))

    open_copies().use(Thing(folder, state, make, stays=True))
    return folder


def _unpack(file: Path, header: GgufHeader, folder: Path) -> None:
    folder.mkdir()
    (folder / GGUF).symlink_to(file)
    config = _config(file, folder)
    _require_same_positions(file, header, config)
    (folder / "config.json").write_text(json.dumps(config, indent=1, sort_keys=True), encoding="utf-8")
    if "tokenizer.ggml.tokens" in header.values:
        _write_tokenizer(file, folder)


def _config(file: Path, folder: Path) -> dict[str, Any]:
    from transformers import PreTrainedConfig

    try:
        with quiet_transformers():
            found: dict[str, Any] = PreTrainedConfig.get_config_dict(folder, gguf_file=GGUF, local_files_only=True)[0]
    # transformers' own code reads it, and raises whatever it likes; passed on, named.
    except Exception as error:
        raise ModelError(f"transformers cannot read {file}: {brief(error)}; give the model's own folder") from error
    return {name: value for name, value in found.items() if not name.startswith("_")}  # its own notes


def _require_same_positions(file: Path, header: GgufHeader, config: dict[str, Any]) -> None:
    """transformers leaves out how positions are stretched, and would compute another model."""
    architecture = header.values.get("general.architecture")
    stretched = header.values.get(f"{architecture}.rope.scaling.type", "none")
    if stretched != "none" and not (config.get("rope_scaling") or config.get("rope_parameters")):
        raise ModelError(
            f"{file} stretches its positions ({architecture}.rope.scaling.type: {stretched}), which transformers does "
            "not read from it: it would be another model; give the model's own folder"
        )


def _write_tokenizer(file: Path, folder: Path) -> None:
    from transformers import AutoTokenizer

    try:
        with quiet_transformers():
            AutoTokenizer.from_pretrained(folder, gguf_file=GGUF, local_files_only=True).save_pretrained(folder)
    # As above; told, and not raised: the model may be used with a tokenizer that is named.
    except Exception as error:  # noqa: BLE001
        logger.warning(
            "transformers makes no tokenizer of %s (%s); name the folder of the model's own in `tokenizer`",
            *(file, brief(error)),
        )
