"""A model's tokenizer, loaded from its folder. transformers is imported where it is used."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from schemas.errors import TokenizerError
from schemas.models.files import TOKENIZER_FILES, brief, quiet_transformers, read_json, require_small_files
from schemas.models.tokenizer_growth import require_bounded_growth
from schemas.models.tokenizer_rules import same_tokenizer
from schemas.models.tokenizer_run import is_panic, run_tokenizer

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

# Any of these holds a vocabulary; transformers makes an empty tokenizer of a folder without.
_VOCABULARIES = frozenset(TOKENIZER_FILES) - {
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
}


@dataclass(frozen=True)
class LoadedTokenizer:
    """A tokenizer, and whose rules it does not follow."""

    tokenizer: "PreTrainedTokenizerFast"
    set_aside: str | None = None  # the class whose rules differ from those of the folder's own files


def load_tokenizer(folder: Path, trust_remote_code: bool = False) -> "PreTrainedTokenizerFast":
    """The fast tokenizer that the files in `folder` describe. Raises TokenizerError as `read_tokenizer` does."""
    return read_tokenizer(folder, trust_remote_code).tokenizer


def read_tokenizer(folder: Path, trust_remote_code: bool = False) -> LoadedTokenizer:
    """The tokenizer that the files in `folder` describe, whatever model they lie beside.

    AutoTokenizer chooses a class by the model's config.json, and for some models (Qwen2) replaces the rules in
    tokenizer.json by those of that model's first tokenizer. So the two are compared, and tokenizer.json is followed.
    Code that comes with the folder is followed instead, where it may be run. Costs a second load of the file.

    Raises TokenizerError: files missing or damaged, a slow tokenizer, one that draws at random or makes a text too much
    longer, no usable offsets.
    """
    chosen = load_chosen_tokenizer(folder, trust_remote_code)
    if not (folder / "tokenizer.json").is_file() or (trust_remote_code and _has_own_code(folder)):
        return LoadedTokenizer(chosen)
    from transformers import PreTrainedTokenizerFast

    plain = _open(PreTrainedTokenizerFast, folder, False)
    if _state(plain) == _state(chosen) or same_tokenizer(plain, chosen):
        return LoadedTokenizer(chosen)
    return LoadedTokenizer(_usable(plain, folder), type(chosen).__name__)


def load_chosen_tokenizer(folder: Path, trust_remote_code: bool = False) -> "PreTrainedTokenizerFast":
    """What AutoTokenizer makes of `folder`, and so whoever opens it with transformers. Raises TokenizerError."""
    from transformers import AutoTokenizer

    require_small_files(folder, TokenizerError)
    require_bounded_growth(folder)
    if not any((folder / name).is_file() for name in _VOCABULARIES):
        raise TokenizerError(
            f"there is no tokenizer in {folder}: it has no tokenizer.json; name its folder in `tokenizer`"
        )
    return _usable(_open(AutoTokenizer, folder, trust_remote_code), folder)


def _open(auto: Any, folder: Path, trust_remote_code: bool) -> Any:
    try:
        with quiet_transformers():
            return auto.from_pretrained(folder, local_files_only=True, trust_remote_code=trust_remote_code)
    # The Rust tokenizers raise bare Exception for a damaged file, so no narrower class will do; it is passed on, named.
    except BaseException as error:
        if not isinstance(error, Exception) and not is_panic(error):
            raise
        raise TokenizerError(f"cannot load the tokenizer in {folder}: {brief(error)}") from error


def _usable(tokenizer: Any, folder: Path) -> "PreTrainedTokenizerFast":
    from transformers import PreTrainedTokenizerFast

    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        raise TokenizerError(
            f"{type(tokenizer).__name__} in {folder} is a slow tokenizer and gives no character offsets; "
            "convert it to a fast one, with a tokenizer.json"
        )
    if getattr(tokenizer.backend_tokenizer.model, "dropout", None):
        raise TokenizerError(
            f"{folder / 'tokenizer.json'} leaves out merges at random (`model.dropout`), so that a text gets other "
            "tokens every time: set it to null"
        )
    try:
        probe = run_tokenizer(tokenizer, "A b", return_offsets_mapping=True, add_special_tokens=False)["offset_mapping"]
    # A setting of another type than transformers expects shows here, as whatever its code raises; passed on, named.
    except Exception as error:
        raise TokenizerError(f"the tokenizer in {folder} cannot tokenize 'A b': {brief(error)}") from error
    if any(not 0 <= start <= end <= 3 for start, end in probe):
        raise TokenizerError(f"the tokenizer in {folder} gives no usable character offsets ({probe} for 'A b')")
    return tokenizer


def _state(tokenizer: "PreTrainedTokenizerFast") -> str:
    return str(tokenizer.backend_tokenizer.to_str())


def _has_own_code(folder: Path) -> bool:
    path = folder / "tokenizer_config.json"
    return path.is_file() and bool(read_json(path).get("auto_map"))


def tokenizer_files(folder: Path) -> list[Path]:
    """The files in `folder` that make up its tokenizer."""
    return [folder / name for name in TOKENIZER_FILES if (folder / name).is_file()]
