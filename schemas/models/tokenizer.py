"""A model's tokenizer, loaded from its folder. transformers is imported where it is used."""

from pathlib import Path
from typing import TYPE_CHECKING

from schemas.errors import TokenizerError
from schemas.models.files import TOKENIZER_FILES, brief, quiet_transformers

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

# Any of these holds a vocabulary; transformers makes an empty tokenizer of a folder without.
_VOCABULARIES = frozenset(TOKENIZER_FILES) - {
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
}


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


def tokenizer_files(folder: Path) -> list[Path]:
    """The files in `folder` that make up its tokenizer."""
    return [folder / name for name in TOKENIZER_FILES if (folder / name).is_file()]
