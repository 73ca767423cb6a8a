"""A model's files: found locally or fetched from the hub, its tokenizer loaded, its content hashed.

Pipeline and trainer load models of their own, but find and judge folders alike. No torch here; transformers and
huggingface_hub are imported where they are used. Hashing reads every weight once, at the disk's speed.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from schemas.errors import ModelError, TokenizerError
from schemas.storage.fingerprint import fingerprint, hash_files

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

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
# Any of these holds a vocabulary; transformers makes an empty tokenizer of a folder without.
_VOCABULARIES = frozenset(TOKENIZER_FILES) - {
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
}
_FETCHED = ["*.safetensors", "*.json", "*.py", *(name for name in TOKENIZER_FILES if not name.endswith(".json"))]
_NOT_FETCHED = ["*/*", "consolidated*"]  # other formats of the same weights
_NOT_READ = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.h5", "*.msgpack")
# Keys of config.json that change nothing of what the model computes from given weights in a given dtype.
_VOLATILE = frozenset({"transformers_version", "_name_or_path", "dtype", "torch_dtype", "use_cache"})


def resolve_model(name: str, revision: str | None) -> Path:
    """The folder of the model, tokenizer or adapter `name`: an existing local folder, or else a snapshot of the hub id.

    A local folder wins and touches no network. Raises ModelError: no such folder, a name that cannot be one, no such
    id, hub not reachable.
    """
    try:
        local = Path(name).expanduser()
        if local.is_dir():
            return local.resolve()
        is_path = local.is_absolute() or local.exists() or name.startswith((".", "~")) or name.count("/") > 1
    except (OSError, RuntimeError) as error:  # the latter for the home of a user who is not there
        raise ModelError(f"cannot look for a model folder {name}: {brief(error)}; give an existing one") from error
    if is_path:
        raise ModelError(f"there is no model folder {name}; give an existing folder or a hub id such as gpt2")
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, revision=revision, allow_patterns=_FETCHED, ignore_patterns=_NOT_FETCHED))
    # The client passes on errors of whatever HTTP library it uses, so no narrower class will do.
    except Exception as error:
        at = "" if revision is None else f" at revision {revision}"
        raise ModelError(
            f"{name} is no local folder, and the hub gave no model {name}{at} ({brief(error)}); "
            "check the name and, for a gated model, your login; without network, give a local folder"
        ) from error


def load_tokenizer(folder: Path, trust_remote_code: bool = False) -> "PreTrainedTokenizerFast":
    """The fast tokenizer in `folder`. Raises TokenizerError: files missing or damaged, a slow one, no offsets."""
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    if not any((folder / name).is_file() for name in _VOCABULARIES):
        raise TokenizerError(
            f"there is no tokenizer in {folder}: it has no tokenizer.json; name its folder in `tokenizer`"
        )
    try:
        with quiet_transformers():
            tokenizer = AutoTokenizer.from_pretrained(
                folder, local_files_only=True, trust_remote_code=trust_remote_code
            )
    # The Rust tokenizers raise bare Exception for a damaged file, so no narrower class will do; it is passed on, named.
    except Exception as error:
        raise TokenizerError(f"cannot load the tokenizer in {folder}: {brief(error)}") from error
    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        raise TokenizerError(
            f"{type(tokenizer).__name__} in {folder} is a slow tokenizer and gives no character offsets; "
            "convert it to a fast one, with a tokenizer.json"
        )
    probe = tokenizer("A b", return_offsets_mapping=True, add_special_tokens=False)["offset_mapping"]
    if any(not 0 <= start <= end <= 3 for start, end in probe):
        raise TokenizerError(f"the tokenizer in {folder} gives no usable character offsets ({probe} for 'A b')")
    return tokenizer


def find_weights(folder: Path) -> list[Path]:
    """The weight files that transformers would load, with their index if there are several.

    Raises ModelError: none there, only pickled ones, or fewer than the index lists.
    """
    if weights := _weights(folder):
        return weights
    raise ModelError(f"{folder} holds no weights: there is no model.safetensors; give the folder of a whole model")


def _weights(folder: Path) -> list[Path]:
    index, single = folder / "model.safetensors.index.json", folder / "model.safetensors"
    if single.is_file():
        return [single]
    if index.is_file():
        weight_map = read_json(index).get("weight_map")
        if not isinstance(weight_map, dict) or not all(isinstance(name, str) for name in weight_map.values()):
            raise ModelError(f"{index} is damaged: `weight_map` gives no file for every weight; fetch the model again")
        names = sorted(set(weight_map.values()))
        for name in names:
            if not (folder / name).is_file():
                raise ModelError(f"{folder} lacks {name}, which {index.name} lists; fetch the model again")
        return [index, *(folder / name for name in names)] if names else []
    if found := [path.name for pattern in _NOT_READ for path in sorted(folder.glob(pattern))]:
        raise ModelError(
            f"{folder} has its weights only as {found[0]}; no pickle is read, for reading one runs its code: "
            "convert it to safetensors (load it in transformers and save it with `save_pretrained`)"
        )
    return []


def hash_model(folder: Path, trust_remote_code: bool = False) -> dict[str, str]:
    """Hashes of the parts that a folder has: "weights", "config", "tokenizer"; a folder may hold a tokenizer alone.
    Its Python files are "code", if they may be run.

    The config's hash leaves out what changes no state (library version, saved dtype). Raises ModelError for weights
    in a format that is not read.
    """
    hashes = {}
    if weights := _weights(folder):
        hashes["weights"] = hash_files(folder, weights)
    if (folder / "config.json").is_file():
        config = read_json(folder / "config.json")
        hashes["config"] = fingerprint({key: value for key, value in config.items() if key not in _VOLATILE})
    if tokenizer := tokenizer_files(folder):
        hashes["tokenizer"] = hash_files(folder, tokenizer)
    if trust_remote_code and (code := sorted(folder.glob("*.py"))):
        hashes["code"] = hash_files(folder, code)
    return hashes


def tokenizer_files(folder: Path) -> list[Path]:
    """The files in `folder` that make up its tokenizer."""
    return [folder / name for name in TOKENIZER_FILES if (folder / name).is_file()]


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object of a model folder. Raises ModelError."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"cannot read {path}: {error}") from error
    if not isinstance(value, dict):
        raise ModelError(f"{path} is damaged: not a JSON object")
    return value


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
