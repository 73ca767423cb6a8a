"""Two vocabularies of a few words, and tokenizers for them."""

from collections.abc import Sequence

from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerFast


def word_tokenizer(pieces: Sequence[str], **special: str) -> PreTrainedTokenizerFast:
    vocabulary = {piece: token for token, piece in enumerate(pieces)}
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer(WordLevel(vocabulary)), **special)


STUDENT = word_tokenizer(["</s>", " a", "b", "c", "\nd", "e", "f"], eos_token="</s>")


TEACHER = word_tokenizer(["a", "b", " c", "\td", "e", "f", "g", "<s>", "h"], bos_token="<s>")
