"""A tokenizer without transformers, from its tokenizer.json alone.

Annotators are processes of their own, and to load a tokenizer by transformers imports torch in each: some five seconds
and 300 MB. The Rust part that does the work is loaded in milliseconds. Whether it alone does the same is for the driver
to say, which has both.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from tokenizers import AddedToken, Tokenizer

from schemas.models.tokenizer_rules import same_encodings

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

AnyTokenizer: TypeAlias = "PreTrainedTokenizerBase | BareTokenizer"
TOKENIZER_JSON = "tokenizer.json"
# What a class of its own may do beside its Rust part when it is given a text.
_STEPS = ("__call__", "_encode_plus", "_switch_to_input_mode", "set_truncation_and_padding", "added_tokens_decoder")


@dataclass(frozen=True)
class BareSettings:
    """What annotation needs to know of a tokenizer beside its tokenizer.json."""

    eos_token_id: int | None


class BareTokenizer:
    """The Rust part of a tokenizer, with the names that transformers gives to what is read here."""

    def __init__(self, folder: Path, settings: BareSettings):
        self.name_or_path = str(folder)
        self.eos_token_id = settings.eos_token_id
        self.backend_tokenizer = _load(folder)

    @property
    def added_tokens_decoder(self) -> dict[int, AddedToken]:
        """The added tokens by their ids."""
        return self.backend_tokenizer.get_added_tokens_decoder()


def bare_settings(tokenizer: "PreTrainedTokenizerBase", folder: Path) -> BareSettings | None:
    """With what `folder`'s tokenizer.json alone makes the ids, offsets and special tokens of every text that
    `tokenizer` makes, which was loaded from there; None if it might not, as with a class that has steps of its own.
    """
    from transformers import PreTrainedTokenizerFast

    if not (folder / TOKENIZER_JSON).is_file() or not isinstance(tokenizer, PreTrainedTokenizerFast):
        return None
    if any(getattr(type(tokenizer), step, None) is not getattr(PreTrainedTokenizerFast, step, None) for step in _STEPS):
        return None
    if tokenizer.split_special_tokens or not same_encodings(_load(folder), tokenizer.backend_tokenizer):
        return None
    return BareSettings(tokenizer.eos_token_id)


def _load(folder: Path) -> Tokenizer:
    """Without cuts and padding, as transformers runs it."""
    tokenizer = Tokenizer.from_file(str(folder / TOKENIZER_JSON))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer
