"""What tells one model from another: hashes over its files. Reads every weight once, at the disk's speed."""

from pathlib import Path

from schemas.models.files import read_json
from schemas.models.tokenizer import tokenizer_files
from schemas.models.weights import list_weights
from schemas.storage.fingerprint import fingerprint, hash_files

# Keys of config.json that change nothing of what the model computes from given weights in a given dtype.
_VOLATILE = frozenset({"transformers_version", "_name_or_path", "dtype", "torch_dtype", "use_cache"})


def hash_model(folder: Path, trust_remote_code: bool = False) -> dict[str, str]:
    """Hashes of the parts that a folder has: "weights", "config", "tokenizer"; a folder may hold a tokenizer alone.
    Its Python files are "code", if they may be run.

    The config's hash leaves out what changes no state (library version, saved dtype). Raises ModelError for weights
    in a format that is not read.
    """
    hashes = {}
    if weights := list_weights(folder):
        hashes["weights"] = hash_files(folder, weights)
    if (folder / "config.json").is_file():
        hashes["config"] = hash_config(folder)
    if tokenizer := tokenizer_files(folder):
        hashes["tokenizer"] = hash_files(folder, tokenizer)
    if trust_remote_code and (code := sorted(folder.glob("*.py"))):
        hashes["code"] = hash_files(folder, code)
    return hashes


def hash_tokenizer(folder: Path, trust_remote_code: bool = False) -> str:
    """The hash of a tokenizer alone, as `hash_model` has it; with the folder's Python files if they may be run."""
    code = sorted(folder.glob("*.py")) if trust_remote_code else []
    return hash_files(folder, tokenizer_files(folder) + code)


def hash_config(folder: Path) -> str:
    """The hash of a model's config.json alone, as `hash_model` has it. Raises ModelError."""
    config = read_json(folder / "config.json")
    return fingerprint({key: value for key, value in config.items() if key not in _VOLATILE})
