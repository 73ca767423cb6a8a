"""Alignment between real tokenizers, over texts made of what tokenizers stumble on."""

from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from schemas.cache.targets import response_targets
from tests.material import MATERIAL, needs_material
from trainer.alignment.spans import aligned_spans, check_offsets, coverage
from trainer.alignment.vocabulary import canonical_pieces

REAL = ["tokenizers/gpt2", "tokenizers/opt", "tokenizers/qwen2", "tokenizers/llama2", "tokenizers/mistral"]
REAL += ["tokenizers/bert-uncased", "models/stories260K", "models/babyllama-byte361"]
LOSSLESS = {"bytelevel", "bpe", "gpt2", "opt", "llama2", "mistral", "stories260K", "babyllama-byte361"}

FRAGMENTS = [
    *["👩‍👩‍👧‍👦", "🇫🇷", "🙂🏽", "e\u0301", "a\u0323\u0301", "é", "漢字かな", "한국어", "नमस्ते", "ﬁ", "½", "Ⅷ", "ß", "İ"],
    *["\r\n", "\n", "\t", " ", "  ", "   ", "\u00a0", "\u3000", "\u200b", "\u00ad", "\ufeff", "\x00"],
    *["The old miller", " and", "don't", "100 %", "...", "(x)", "snake_case", "CamelCase", "https://a.b/c?d=e"],
]
# Not "<", "[" and "▁": tokenizers take special tokens and their own mark for a space by their word.
letters = st.characters(exclude_categories=["Cs"], exclude_characters="<[▁")
parts = st.one_of(st.sampled_from(FRAGMENTS), st.text(letters, max_size=3))
texts = st.lists(parts, min_size=1, max_size=12).map("".join).filter(bool)

Tokenizers = dict[str, PreTrainedTokenizerFast]


@pytest.fixture(scope="module")
def real() -> Tokenizers:
    return {Path(name).name: AutoTokenizer.from_pretrained(MATERIAL / name) for name in REAL}


@pytest.fixture(scope="module")
def pieces(tiny: Tokenizers) -> dict[str, list[bytes | None]]:
    return {name: canonical_pieces(tokenizer) for name, tokenizer in tiny.items() if name in LOSSLESS}


@pytest.fixture(scope="module")
def real_pieces(real: Tokenizers) -> dict[str, list[bytes | None]]:
    return {name: canonical_pieces(tokenizer) for name, tokenizer in real.items() if name in LOSSLESS}


def encode(tokenizer: PreTrainedTokenizerFast, text: str) -> tuple[list[int], np.ndarray]:
    encoded = tokenizer(text, return_offsets_mapping=True)
    offsets = np.array(encoded["offset_mapping"], np.int32).reshape(-1, 2)
    check_offsets(offsets, len(text))
    return encoded["input_ids"], offsets


def last_ends(offsets: np.ndarray, labels: np.ndarray, count: int) -> list[int]:
    return [int(offsets[labels == k, 1].max()) for k in range(count)]


def assert_aligned(text: str, sides: list[tuple[np.ndarray, np.ndarray]], count: int, start: int) -> list[int]:
    """Both sides agree on where each span ends, spans follow one another, none but what must be is left out."""
    ends = last_ends(*sides[0], count)
    assert ends == last_ends(*sides[1], count) == sorted(set(ends))
    begins = np.array([0, *ends[:-1]])
    for offsets, labels in sides:
        assigned = labels[labels >= 0]
        assert (np.diff(assigned) >= 0).all()
        assert set(assigned.tolist()) == set(range(count))
        inside = offsets[labels >= 0]
        assert (inside[:, 0] >= begins[assigned]).all()  # no token reaches back into an earlier span
        after = ends[-1] if ends else start
        left_out = offsets[labels < 0]
        ignored = (left_out[:, 0] == left_out[:, 1]) | (left_out[:, 1] <= start) | (left_out[:, 1] > after)
        assert ignored.all()
    learnt = response_targets(start, len(text))
    shares = [coverage(offsets, labels, learnt) for offsets, labels in sides]
    assert (
        shares[0] == shares[1] == (1.0 if start == len(text) else (max([start, *ends]) - start) / (len(text) - start))
    )
    return ends


def assert_spells(text: str, ids: list[int], labels: np.ndarray, ends: list[int], pieces: list[bytes | None]) -> None:
    """The tokens of each span spell out its characters, byte for byte; SentencePiece puts a space before the text."""
    begin = 0
    for k, end in enumerate(ends):
        spelt = b"".join(pieces[ids[place]] or b"?" for place in np.flatnonzero(labels == k))
        expected = text[begin:end].encode()
        assert spelt in ((expected,) if k else (expected, b" " + expected))
        begin = end


def check_all_pairs(tokenizers: Tokenizers, pieces: dict[str, list[bytes | None]], text: str, start: int) -> None:
    encoded = {name: encode(tokenizer, text) for name, tokenizer in tokenizers.items()}
    learnt = response_targets(start, len(text))
    for first, second in combinations(tokenizers, 2):
        (ids, offsets), (other_ids, other_offsets) = encoded[first], encoded[second]
        labels, other_labels, count = aligned_spans(offsets, other_offsets, learnt)
        ends = assert_aligned(text, [(offsets, labels), (other_offsets, other_labels)], count, start)
        mirrored, other_mirrored, _ = aligned_spans(other_offsets, offsets, learnt)
        assert (mirrored == other_labels).all()
        assert (other_mirrored == labels).all()
        if start == 0 and {first, second} <= LOSSLESS:
            assert ends[-1] == len(text)
            assert_spells(text, ids, labels, ends, pieces[first])
            assert_spells(text, other_ids, other_labels, ends, pieces[second])


@given(text=texts, share=st.sampled_from([0.0, 0.0, 0.5]))
@settings(deadline=None, max_examples=80, suppress_health_check=[HealthCheck.too_slow])
def test_tiny_tokenizers(tiny: Tokenizers, pieces: dict[str, list[bytes | None]], text: str, share: float) -> None:
    check_all_pairs(tiny, pieces, text, int(share * len(text)))


@needs_material
@given(text=texts, share=st.sampled_from([0.0, 0.0, 0.5]))
@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow])
def test_real_tokenizers(real: Tokenizers, real_pieces: dict[str, list[bytes | None]], text: str, share: float) -> None:
    check_all_pairs(real, real_pieces, text, int(share * len(text)))


@needs_material
def test_english_aligns_at_nearly_every_word(real: Tokenizers) -> None:
    text = "The old miller has quickly found three silver coins near the river, and then went home. " * 4
    words = len(text.split())
    for first, second in combinations(real, 2):
        _, _, count = aligned_spans(encode(real[first], text)[1], encode(real[second], text)[1])
        assert count >= words
