"""What the tokens of the tiny tokenizers say, as bytes: their own decoders are asked, not our code."""

from functools import cache

from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast
from transformers.convert_slow_tokenizer import bytes_to_unicode

BYTE_OF_LETTER = {letter: byte for byte, letter in bytes_to_unicode().items()}  # GPT-2's alphabet


@cache
def spelt(tokenizer: PreTrainedTokenizerFast) -> list[bytes | None]:
    """The bytes of each token id; None for a special token, and for one of two that say the same: a byte of byte
    fallback, or a piece within a word, that an ordinary token says too."""
    vocabulary = tokenizer.get_vocab()
    ordinary_first = sorted(vocabulary, key=lambda piece: (piece.startswith(("<0x", "##")), vocabulary[piece]))
    pieces: list[bytes | None] = [None] * len(vocabulary)
    taken = set[bytes]()
    for piece in ordinary_first:
        content = _content(tokenizer.backend_tokenizer, piece)
        if vocabulary[piece] not in tokenizer.all_special_ids and content not in taken:
            pieces[vocabulary[piece]] = content
            taken.add(content)
    return pieces


def _content(backend: Tokenizer, piece: str) -> bytes:
    """What decoding adds to a letter that stands before; of part of a character, which no decoder shows, its bytes."""
    said: str = backend.decoder.decode(["e", piece]).removeprefix("e")
    if "\ufffd" in said:
        return bytes([int(piece[3:5], 16)] if piece.startswith("<0x") else [BYTE_OF_LETTER[x] for x in piece])
    if backend.normalizer is not None and _is_a_word_of_its_own(backend, piece):
        said = said.removeprefix(" ")
    return said.encode()


def _is_a_word_of_its_own(backend: Tokenizer, piece: str) -> bool:
    """BERT's rules cut it off a letter that stands before, so that no space need be there."""
    return len(backend.pre_tokenizer.pre_tokenize_str(backend.normalizer.normalize_str("e" + piece))) > 1
