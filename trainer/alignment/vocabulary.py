"""Which tokens of two tokenizers stand for the same text.

A token is known by its bytes: `Ġthe` of byte-level BPE and `▁the` of SentencePiece are both b" the"; `Ċ` and `<0x0A>`
are both a newline. How a tokenizer spells bytes is read from its own components, never guessed from names. Costs one to
two seconds for a vocabulary of 150,000, once per run.
"""

import re
import unicodedata
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from schemas.models.tokenizer_rules import backend_state, components

_IDEOGRAPHS = ("CJK UNIFIED IDEOGRAPH", "CJK COMPATIBILITY IDEOGRAPH")  # radicals and strokes are letters
_BYTE_FALLBACK = re.compile(r"<0x([0-9A-F]{2})>")


@dataclass(frozen=True)
class SharedVocabulary:
    """Tokens that both sides can say: student_ids[n] and teacher_ids[n] stand for the same text."""

    student_ids: Tensor  # [N] long, ascending
    teacher_ids: Tensor  # [N] long, no repeats

    @classmethod
    def empty(cls) -> "SharedVocabulary":
        """Nothing in common."""
        return cls(torch.empty(0, dtype=torch.long), torch.empty(0, dtype=torch.long))

    @property
    def size(self) -> int:
        """N; 0 if the tokenizers have nothing in common."""
        return len(self.student_ids)


def share_vocabulary(
    student_tokenizer: PreTrainedTokenizerBase, teacher_tokenizer: PreTrainedTokenizerBase
) -> SharedVocabulary:
    """V_S ∩ V_T of SRA's L_span-KD, one to one, by bytes.

    Special tokens are left out, because equal spelling is not equal use. The two end-of-sequence tokens are paired
    whatever their spelling, because a teacher also knows when to stop. Raises TokenizerError for a slow tokenizer.
    """
    teacher = {piece: token for token, piece in enumerate(canonical_pieces(teacher_tokenizer)) if piece is not None}
    student = enumerate(canonical_pieces(student_tokenizer))
    pairs = [(token, teacher[piece]) for token, piece in student if piece in teacher]
    if student_tokenizer.eos_token_id is not None and teacher_tokenizer.eos_token_id is not None:
        pairs.append((student_tokenizer.eos_token_id, teacher_tokenizer.eos_token_id))
    ids = torch.tensor(sorted(pairs), dtype=torch.long).reshape(-1, 2)
    return SharedVocabulary(student_ids=ids[:, 0].contiguous(), teacher_ids=ids[:, 1].contiguous())


def canonical_pieces(tokenizer: PreTrainedTokenizerBase) -> list[bytes | None]:
    """The bytes that each token id stands for; None for special tokens, unused ids and tokens that are never emitted.

    No bytes appear twice. Of several tokens with the same bytes the one that the tokenizer emits keeps them: an added
    token before an ordinary one, that before a byte-fallback token or a `##` continuation, and then the lowest id.

    - Byte-level BPE: GPT-2's alphabet of 256 letters, undone; a token may be part of a character.
    - SentencePiece: `▁`, or what else the decoder turns into a space, is a space; `<0x0A>` of byte fallback a byte.
    - WordPiece: `##ing` is b"ing". A piece without `##` begins a word, mostly after a space, and is b" word";
      punctuation and CJK ideographs, which always stand alone, come without the space.
    - BPE with word ends (`the</w>`): b"the ", the space where its decoder writes it.
    - Anything else: the token's own string.

    Raises TokenizerError for a slow tokenizer.
    """
    state = backend_state(tokenizer)
    spelling = _spelling(state)
    special = set(tokenizer.all_special_ids) | {token["id"] for token in state["added_tokens"] if token["special"]}
    added = {token["id"] for token in state["added_tokens"]}
    vocabulary = tokenizer.get_vocab()
    emitted: dict[bytes, tuple[int, int]] = {}
    for piece, token in vocabulary.items():
        if token in special or not piece:
            continue
        rank, content = (0, piece.encode()) if token in added else spelling.read(piece)
        if content not in emitted or (rank, token) < emitted[content]:
            emitted[content] = (rank, token)
    pieces: list[bytes | None] = [None] * (max(vocabulary.values(), default=-1) + 1)
    for content, (_, token) in emitted.items():
        pieces[token] = content
    return pieces


@dataclass(frozen=True)
class _Spelling:
    """How a tokenizer's vocabulary spells bytes."""

    byte_level: bool
    space: str | None  # what stands for a space
    byte_fallback: bool
    continuation: str  # prefix of pieces that continue a word, or ""
    word_end: str  # suffix of pieces that end a word, or ""

    def read(self, piece: str) -> tuple[int, bytes]:
        """(rank, bytes) of an ordinary token; a higher rank gives way to a lower one with the same bytes."""
        if self.byte_fallback and (byte := _BYTE_FALLBACK.fullmatch(piece)):
            return 2, bytes([int(byte[1], 16)])
        before, after, rank = "", b"", 1
        if self.continuation:
            if piece.startswith(self.continuation) and piece != self.continuation:
                piece, rank = piece.removeprefix(self.continuation), 2
            elif not _stands_alone(piece):
                before = " "
        if self.word_end and piece.endswith(self.word_end):
            piece, after = piece.removesuffix(self.word_end), b" "
        if self.byte_level:
            return rank, _undo_byte_level(piece) + after
        if self.space is not None:
            piece = piece.replace(self.space, " ")
        return rank, (before + piece).encode() + after


def _spelling(state: dict[str, Any]) -> _Spelling:
    decoders = list(components(state["decoder"]))
    everything = [*decoders, *components(state["pre_tokenizer"]), *components(state["normalizer"])]
    model = state["model"]
    spaces = [part["replacement"] for part in everything if part["type"] == "Metaspace"]
    to_space = (part["pattern"] for part in decoders if part["type"] == "Replace" and part["content"] == " ")
    spaces += [pattern["String"] for pattern in to_space if "String" in pattern]
    return _Spelling(
        byte_level=any(part["type"] == "ByteLevel" for part in everything),
        space=next(iter(spaces), None),
        byte_fallback=bool(model.get("byte_fallback")) or any(part["type"] == "ByteFallback" for part in decoders),
        continuation=model.get("continuing_subword_prefix") or "",
        word_end=model.get("end_of_word_suffix") or "",
    )


def _stands_alone(piece: str) -> bool:
    """BERT's pre-tokenizer makes words of their own of these, with or without spaces around them: punctuation, which of
    ASCII is all symbols, and ideographs. Other symbols (°, €, ×) are letters to it."""
    if len(piece) != 1:
        return False
    punctuation = unicodedata.category(piece).startswith("P") or (piece.isascii() and not piece.isalnum())
    return punctuation or unicodedata.name(piece, "").startswith(_IDEOGRAPHS)


def byte_level_alphabet() -> dict[str, int]:
    """GPT-2's letters for bytes: printable Latin-1 stands for itself, the rest for U+0100 onwards in order."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = sorted(set(range(256)) - set(printable))
    return {chr(byte): byte for byte in printable} | {chr(256 + place): byte for place, byte in enumerate(others)}


_BYTE_OF_LETTER = byte_level_alphabet()


def _undo_byte_level(piece: str) -> bytes:
    try:
        return bytes([_BYTE_OF_LETTER[letter] for letter in piece])
    except KeyError:  # not spelt in the alphabet: the decoder, too, takes such a token for plain text
        return piece.encode()
