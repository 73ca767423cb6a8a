"""Texts to tokens: the one place where a tokenizer that was loaded from a folder is run."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import Lock
from typing import TYPE_CHECKING, Any

from schemas.errors import TokenizerError
from schemas.models.bare_tokenizer import AnyTokenizer, BareTokenizer
from schemas.models.files import brief

if TYPE_CHECKING:
    from tokenizers import Encoding
    from transformers import BatchEncoding, PreTrainedTokenizerBase

# A call sets the tokenizer's cuts, which fails while another thread runs it: a loader's, and that of an evaluation.
_ONE_AT_A_TIME = Lock()


def run_tokenizer(tokenizer: "PreTrainedTokenizerBase", texts: str | Sequence[str], **options: Any) -> "BatchEncoding":
    """What `tokenizer` makes of one text or of several, never cut or padded unless `options` say so.

    Raises TokenizerError if its own code fails: a regular expression that tries too many ways, an unknown token that
    its vocabulary lacks.
    """
    with tokenizer_errors(tokenizer), _ONE_AT_A_TIME:
        whole = texts if isinstance(texts, str) else list(texts)
        return tokenizer(whole, **{"truncation": False, "padding": False, "verbose": False, **options})


def encode_texts(tokenizer: AnyTokenizer, texts: Sequence[str], add_special_tokens: bool = True) -> list["Encoding"]:
    """The encodings of whole texts, with the characters of each token; from a bare tokenizer the same.

    Raises TokenizerError as `run_tokenizer` does, and for a slow tokenizer.
    """
    if isinstance(tokenizer, BareTokenizer):
        with tokenizer_errors(tokenizer), _ONE_AT_A_TIME:
            return tokenizer.backend_tokenizer.encode_batch(list(texts), add_special_tokens=add_special_tokens)
    encodings = run_tokenizer(tokenizer, texts, add_special_tokens=add_special_tokens).encodings
    if encodings is None:
        raise TokenizerError("the teacher's tokenizer is not a fast one and gives no character offsets")
    return list(encodings)


@contextmanager
def tokenizer_errors(tokenizer: AnyTokenizer) -> Iterator[None]:
    """Turn what the Rust tokenizers raise into a TokenizerError that names the tokenizer.json."""
    try:
        yield
    except BaseException as error:
        if type(error) is not Exception and not is_panic(error):
            raise
        raise TokenizerError(
            f"{tokenizer.name_or_path}/tokenizer.json fails at a text: {brief(error)}; look at its regular expressions "
            "and its unknown token, or take another tokenizer"
        ) from None


def is_panic(error: BaseException) -> bool:
    """Whether the Rust tokenizers' own code gave up: no class of theirs can be imported, and it is not an Exception."""
    return type(error).__name__ == "PanicException"
