"""Token identity across spellings, against what the tokenizers themselves decode and encode."""

import json
import unicodedata
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import AddedToken, AutoTokenizer, ByT5Tokenizer, PreTrainedTokenizerFast
from transformers.convert_slow_tokenizer import bytes_to_unicode

from schemas.errors import TokenizerError
from schemas.models.tokenizer_rules import same_tokenizer
from tests.material import MATERIAL, needs_material
from tests.tiny import KINDS, TEXTS, Kind, tiny_tokenizer
from tests.trainer.alignment.samples import word_tokenizer
from tests.trainer.alignment.spelling import spelt
from trainer.alignment.vocabulary import SharedVocabulary, byte_level_alphabet, canonical_pieces, share_vocabulary

Tokenizers = dict[str, PreTrainedTokenizerFast]


@pytest.fixture(scope="module")
def real() -> Tokenizers:
    names = ["gpt2", "opt", "llama2", "mistral", "bert-uncased"]
    return {name: AutoTokenizer.from_pretrained(MATERIAL / "tokenizers" / name) for name in names}


def decoded(tokenizer: PreTrainedTokenizerFast, token: int) -> str:
    """What a token adds to a text that it does not begin: decoders treat the first token in a way of its own."""
    anchor = tokenizer("e", add_special_tokens=False)["input_ids"][-1:]
    before, after = (tokenizer.decode(ids, clean_up_tokenization_spaces=False) for ids in (anchor, [*anchor, token]))
    assert after.startswith(before)
    added: str = after.removeprefix(before)
    return added


def assert_decodes_alike(student: PreTrainedTokenizerFast, teacher: PreTrainedTokenizerFast, step: int = 1) -> int:
    """Every `step`-th pair decodes to the same text; how many are whole characters, and so were compared."""
    shared, compared = share_vocabulary(student, teacher), 0
    for pair in zip(shared.student_ids[::step].tolist(), shared.teacher_ids[::step].tolist(), strict=True):
        ours, theirs = decoded(student, pair[0]), decoded(teacher, pair[1])
        if pair != (student.eos_token_id, teacher.eos_token_id) and "\ufffd" not in ours + theirs:
            assert ours == theirs
            compared += 1
    return compared


def as_set(student: PreTrainedTokenizerFast, teacher: PreTrainedTokenizerFast) -> set[tuple[int, int]]:
    shared = share_vocabulary(student, teacher)
    return set(zip(shared.student_ids.tolist(), shared.teacher_ids.tolist(), strict=True))


@pytest.mark.parametrize("student", KINDS)
@pytest.mark.parametrize("teacher", KINDS)
def test_shared_vocabulary_is_one_to_one_and_the_same_either_way(
    tiny: Tokenizers, student: Kind, teacher: Kind
) -> None:
    shared = share_vocabulary(tiny[student], tiny[teacher])
    assert shared.student_ids.dtype == shared.teacher_ids.dtype == torch.long
    assert shared.size == len(shared.student_ids) == len(shared.teacher_ids) > 30
    assert (shared.student_ids.diff() > 0).all()
    assert len(shared.teacher_ids.unique()) == shared.size
    assert as_set(tiny[student], tiny[teacher]) == {(s, t) for t, s in as_set(tiny[teacher], tiny[student])}
    specials = set(tiny[student].all_special_ids) & set(shared.student_ids.tolist())
    both_end = "wordpiece" not in (student, teacher)
    assert specials == ({tiny[student].eos_token_id} if both_end else set())


@pytest.mark.parametrize("kind", KINDS)
def test_pieces_are_what_decoders_say(tiny: Tokenizers, kind: Kind) -> None:
    found, wanted = canonical_pieces(tiny[kind]), spelt(tiny[kind])
    assert len(found) == len(wanted)
    assert {token: piece for token, piece in enumerate(found) if piece != wanted[token]} == {}


@pytest.mark.parametrize(("student", "teacher"), [("bytelevel", "bpe"), ("unigram", "bpe"), ("bpe", "bytelevel")])
def test_shared_tokens_decode_to_the_same_text(tiny: Tokenizers, student: Kind, teacher: Kind) -> None:
    assert assert_decodes_alike(tiny[student], tiny[teacher]) > 70


@pytest.mark.parametrize(("kind", "prefix"), [("bytelevel", b""), ("bpe", b" ")])
def test_a_text_s_pieces_spell_its_bytes(tiny: Tokenizers, kind: Kind, prefix: bytes) -> None:
    pieces = canonical_pieces(tiny[kind])

    @given(
        st.one_of(st.sampled_from(TEXTS), st.text(st.characters(exclude_categories=["Cs"], exclude_characters="<▁")))
    )
    @settings(deadline=None, max_examples=150)
    def spells(text: str) -> None:
        ids = tiny[kind](text, add_special_tokens=False)["input_ids"]
        spelt = b"".join(pieces[token] or b"?" for token in ids)
        # SentencePiece begins a text with a space, unless it does itself
        assert spelt == (prefix if text and not text.startswith(" ") else b"") + text.encode()

    spells()


def test_conventions_meet_in_bytes(tiny: Tokenizers) -> None:
    pieces = {kind: canonical_pieces(tokenizer) for kind, tokenizer in tiny.items()}
    token = {kind: tokenizer.get_vocab() for kind, tokenizer in tiny.items()}
    the = {"bpe": "▁the", "bytelevel": "Ġthe", "wordpiece": "the"}
    assert {pieces[kind][token[kind][piece]] for kind, piece in the.items()} == {b" the"}
    stop = dict.fromkeys(KINDS, ".")
    assert {pieces[kind][token[kind][piece]] for kind, piece in stop.items()} == {b"."}
    letter = {"bpe": "e", "bytelevel": "e", "unigram": "e", "wordpiece": "##e"}
    assert {pieces[kind][token[kind][piece]] for kind, piece in letter.items()} == {b"e"}
    assert pieces["wordpiece"][token["wordpiece"]["e"]] == b" e"
    assert pieces["wordpiece"][token["wordpiece"]["漢"]] == "漢".encode()
    assert pieces["bytelevel"][token["bytelevel"]["Ċ"]] == b"\n"
    assert b"\n" in [pieces["bpe"][i] for i in tiny["bpe"]("e\ne")["input_ids"]]  # as a letter or as <0x0A>
    assert pieces["bpe"][token["bpe"]["<0xE6>"]] == pieces["bytelevel"][token["bytelevel"]["æ"]] == b"\xe6"
    assert pieces["bpe"][token["bpe"]["<0x65>"]] is None  # "e" is a token itself, so this one is never emitted
    assert pieces["bpe"][token["bpe"]["<s>"]] is None


def test_added_tokens_and_gaps_in_the_ids(tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer(tmp_path, "bytelevel")
    letters, size = tokenizer.get_vocab(), len(tokenizer)
    tokenizer.add_tokens([AddedToken("Ġé", normalized=False), AddedToken("the", normalized=False)])
    tokenizer.add_special_tokens({"additional_special_tokens": ["<turn>"]})
    pieces = canonical_pieces(tokenizer)
    assert len(pieces) == size + 3
    assert pieces[size] == "Ġé".encode()  # an added token is plain text, not spelt in the byte alphabet
    assert pieces[size + 1] == b"the"
    assert pieces[size + 2] is None
    if "the" in letters:
        assert pieces[letters["the"]] is None  # the added one is matched first


def test_word_ends_and_plain_words() -> None:
    ends = Tokenizer(models.BPE({"t</w>": 0, "t": 1, "<unk>": 2}, [], end_of_word_suffix="</w>", unk_token="<unk>"))
    ends.decoder = decoders.BPEDecoder(suffix="</w>")
    assert canonical_pieces(PreTrainedTokenizerFast(tokenizer_object=ends, unk_token="<unk>")) == [b"t ", b"t", None]
    words = Tokenizer(models.WordLevel({"<unk>": 0, "the": 3, "Ġthe": 1}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    expected = [None, "Ġthe".encode(), None, b"the"]  # nothing says what Ġ should mean
    assert canonical_pieces(PreTrainedTokenizerFast(tokenizer_object=words, unk_token="<unk>")) == expected


@pytest.mark.parametrize(("name", "said"), [("", "this model"), ("/models/byt5", "/models/byt5")])
def test_slow_tokenizers_are_refused(tiny: Tokenizers, name: str, said: str) -> None:
    slow = ByT5Tokenizer()
    slow.name_or_path = name
    for use in (canonical_pieces, lambda t: share_vocabulary(t, tiny["bpe"]), lambda t: same_tokenizer(t, tiny["bpe"])):
        with pytest.raises(TokenizerError) as refused:
            use(slow)
        assert str(refused.value) == (
            f"ByT5Tokenizer of {said} is a slow tokenizer, without character offsets: convert it to a tokenizer.json"
        )


def pieces_of(model: dict[str, Any], **parts: Any) -> list[bytes | None]:
    """Of a tokenizer.json with these parts; its unknown token is `?`, number 0."""
    state: dict[str, Any] = {
        "version": "1.0",
        "added_tokens": [],
        "normalizer": None,
        "pre_tokenizer": None,
        "post_processor": None,
    }
    state |= {"decoder": None, "model": {"unk_token": "?", **model}} | parts
    backend = Tokenizer.from_str(json.dumps(state))
    return canonical_pieces(PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="?"))


def numbered(*pieces: str) -> dict[str, int]:
    return {piece: number for number, piece in enumerate(("?", *pieces))}


def bpe(*pieces: str, **fields: Any) -> dict[str, Any]:
    return {"type": "BPE", "vocab": numbered(*pieces), "merges": [], **fields}


BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
FALLBACK = {"type": "ByteFallback"}


def metaspace(letter: str) -> dict[str, Any]:
    return {"type": "Metaspace", "replacement": letter, "prepend_scheme": "always", "split": True}


def to_space(pattern: dict[str, str], content: str = " ") -> dict[str, Any]:
    return {"type": "Replace", "pattern": pattern, "content": content}


def in_sequence(name: str, *parts: dict[str, Any]) -> dict[str, Any]:
    return {"type": "Sequence", name: list(parts)}


@pytest.mark.parametrize(
    ("part", "component"),
    [
        ("decoder", BYTE_LEVEL),
        ("pre_tokenizer", BYTE_LEVEL),
        ("normalizer", {"type": "ByteLevel"}),
        ("decoder", in_sequence("decoders", {"type": "Fuse"}, BYTE_LEVEL)),
        ("pre_tokenizer", in_sequence("pretokenizers", {"type": "Whitespace"}, BYTE_LEVEL)),
        ("normalizer", in_sequence("normalizers", {"type": "NFC"}, {"type": "ByteLevel"})),
        ("normalizer", in_sequence("normalizers", in_sequence("normalizers", {"type": "ByteLevel"}))),
    ],
)
def test_the_byte_alphabet_is_undone_where_any_component_uses_it(part: str, component: dict[str, Any]) -> None:
    assert pieces_of(bpe("Ġthe", "æ", "漢"), **{part: component}) == [None, b" the", b"\xe6", "漢".encode()]
    assert pieces_of(bpe("Ġthe"))[1] == "Ġthe".encode()


def test_the_byte_alphabet_is_gpt2s() -> None:
    assert byte_level_alphabet() == {letter: byte for byte, letter in bytes_to_unicode().items()}


@pytest.mark.parametrize(
    ("parts", "wanted"),
    [
        ({}, "_a^b"),
        ({"pre_tokenizer": metaspace("_")}, " a^b"),
        ({"decoder": metaspace("_")}, " a^b"),
        ({"pre_tokenizer": in_sequence("pretokenizers", metaspace("^"))}, "_a b"),
        ({"decoder": to_space({"String": "_"})}, " a^b"),
        ({"decoder": to_space({"String": "_"}, content="-")}, "_a^b"),
        ({"decoder": to_space({"Regex": "_"})}, "_a^b"),
        ({"decoder": in_sequence("decoders", to_space({"Regex": "_"}), to_space({"String": "^"}))}, "_a b"),
        ({"normalizer": to_space({"String": "^"})}, "_a^b"),  # what a normaliser makes a space never was one
        ({"decoder": to_space({"String": "_"}), "pre_tokenizer": metaspace("^")}, "_a b"),
    ],
)
def test_a_space_is_what_the_components_say(parts: dict[str, Any], wanted: str) -> None:
    assert pieces_of(bpe("_a^b"), **parts) == [None, wanted.encode()]


@pytest.mark.parametrize(
    ("fields", "parts", "falls_back"),
    [
        ({}, {}, False),
        ({"byte_fallback": True}, {}, True),
        ({}, {"decoder": FALLBACK}, True),
        ({"byte_fallback": False}, {"decoder": in_sequence("decoders", FALLBACK, {"type": "Fuse"})}, True),
        ({"byte_fallback": True}, {"decoder": FALLBACK}, True),
    ],
)
def test_bytes_of_fallback(fields: dict[str, Any], parts: dict[str, Any], falls_back: bool) -> None:
    found = pieces_of(bpe("<0x0A>", "<0xe6>", "<0x41>B", "<0x41>", "A", **fields), **parts)
    read = [b"\n", b"<0xe6>", b"<0x41>B", None, b"A"]
    assert found[1:] == (read if falls_back else [b"<0x0A>", b"<0xe6>", b"<0x41>B", b"<0x41>", b"A"])


def test_word_ends_are_spaces_behind() -> None:
    assert pieces_of(bpe("the</w>", "the", "</w>", end_of_word_suffix="</w>"))[1:] == [b"the ", b"the", b" "]
    assert pieces_of(bpe("the</w>", "æ</w>", end_of_word_suffix="</w>"), decoder=BYTE_LEVEL)[1:] == [b"the ", b"\xe6 "]
    assert pieces_of(bpe("the</w>"))[1:] == [b"the</w>"]


def test_continuations_give_way_to_pieces_of_the_same_bytes() -> None:
    vocabulary = numbered("##s", "s", "##", "##.", ".", "##,", "!", "##!", "a.")
    model = {"type": "WordPiece", "vocab": vocabulary, "continuing_subword_prefix": "##"}
    found = pieces_of({**model, "max_input_chars_per_word": 9})
    assert found[1:] == [b"s", b" s", b" ##", None, b".", b",", b"!", None, b" a."]


def test_of_two_tokens_with_the_same_bytes_the_lowest_id_is_kept() -> None:
    """Whatever order the file names them in."""
    for order in (("a^", "a_"), ("a_", "a^")):
        ids = {"a^": 1, "a_": 2}
        vocabulary = {"?": 0} | {piece: ids[piece] for piece in order}
        decoder = in_sequence("decoders", to_space({"String": "^"}), to_space({"String": "_"}))
        found = pieces_of({"type": "BPE", "vocab": vocabulary, "merges": []}, decoder=decoder)
        assert found == [None, b"a ", b"a_"]
        levels = {"?": 0, "é": 1, "Ã©": 2} if order[0] == "a^" else {"?": 0, "Ã©": 2, "é": 1}
        found = pieces_of({"type": "BPE", "vocab": levels, "merges": []}, decoder=BYTE_LEVEL)
        assert found == [None, b"\xe9", "é".encode()]


def test_a_piece_of_nothing_stands_for_nothing() -> None:
    assert pieces_of({"type": "WordLevel", "vocab": {"?": 0, "": 1, "a": 3}}) == [None, None, None, b"a"]


def test_words_begin_with_a_space_unless_berts_rules_cut_them_off() -> None:
    """Every character of these blocks, against BERT's own normaliser and pre-tokenizer."""
    blocks = [(0x21, 0x600), (0x2010, 0x2C00), (0x2E80, 0x2FE0), (0x3001, 0x9FEB), (0xE000, 0xE100), (0xF900, 0xFB00)]
    blocks += [(0xFF00, 0xFFEF), (0x1F600, 0x1F650)]
    normalise = normalizers.BertNormalizer(lowercase=False, strip_accents=False).normalize_str
    cut = pre_tokenizers.BertPreTokenizer().pre_tokenize_str
    letters = [chr(code) for first, last in blocks for code in range(first, last)]
    # Without those that it drops, and those that no version of Unicode had assigned when Python and BERT's rules came.
    letters = [x for x in letters if normalise(x).strip() == x and unicodedata.category(x) != "Cn" and x != "?"]
    model = {"type": "WordPiece", "vocab": numbered(*letters), "continuing_subword_prefix": "##"}
    found = pieces_of({**model, "max_input_chars_per_word": 9})[1:]
    assert len(letters) > 30_000
    for letter, piece in zip(letters, found, strict=True):
        alone = [word for word, _ in cut(normalise(f"a{letter}a"))] == ["a", letter, "a"]
        assert piece == (letter if alone else " " + letter).encode(), (letter, hex(ord(letter)))


def test_nothing_in_common() -> None:
    first, second = word_tokenizer(["a", "b"]), word_tokenizer(["c"])
    for shared in (share_vocabulary(first, second), SharedVocabulary.empty()):
        assert shared.size == 0
        for ids in (shared.student_ids, shared.teacher_ids):
            assert ids.shape == (0,) and ids.dtype == torch.long


def test_ends_of_sequence_are_paired_where_both_sides_have_one() -> None:
    plain, ending = word_tokenizer(["a", "c"]), word_tokenizer(["b", "c", "a"], eos_token="<end>")
    other = word_tokenizer(["c"], eos_token="</s>")
    assert as_set(plain, ending) == {(1, 4), (2, 3)} and as_set(ending, plain) == {(4, 1), (3, 2)}
    assert as_set(ending, other) == {(0, 0), (3, 2)}


@needs_material
def test_bytes_find_far_more_than_strings_between_conventions(real: Tokenizers) -> None:
    by_string = real["gpt2"].get_vocab().keys() & real["llama2"].get_vocab().keys()
    byte = {letter: value for value, letter in bytes_to_unicode().items()}
    gpt2 = {bytes(byte[letter] for letter in piece) for piece in real["gpt2"].get_vocab() if piece != "<|endoftext|>"}
    llama2 = {piece.replace("▁", " ").encode() for piece in real["llama2"].get_vocab()} | {
        bytes([b]) for b in range(256)
    }
    size = share_vocabulary(real["gpt2"], real["llama2"]).size
    assert size == len(gpt2 & llama2) + 1 == 18208  # and the end of sequence
    assert size > 2.5 * len(by_string)


@needs_material
def test_opt_says_all_that_gpt2_says(real: Tokenizers) -> None:
    shared = share_vocabulary(real["gpt2"], real["opt"])
    assert shared.student_ids.tolist() == list(range(50257))
    assert not same_tokenizer(real["gpt2"], real["opt"])


@needs_material
@pytest.mark.parametrize(("student", "teacher"), [("gpt2", "llama2"), ("llama2", "mistral"), ("opt", "mistral")])
def test_real_tokens_decode_to_the_same_text(real: Tokenizers, student: str, teacher: str) -> None:
    assert assert_decodes_alike(real[student], real[teacher], step=25) > 700


@needs_material
def test_wordpiece_words_decode_as_byte_level_words(real: Tokenizers) -> None:
    shared, compared = share_vocabulary(real["gpt2"], real["bert-uncased"]), 0
    for ours, theirs in list(zip(shared.student_ids.tolist(), shared.teacher_ids.tolist(), strict=True))[::25]:
        text = decoded(real["gpt2"], ours)
        if text.isascii() and text.strip().isalpha():  # BERT's decoder spaces out punctuation and ideographs, too
            assert decoded(real["bert-uncased"], theirs) == text
            compared += 1
    assert compared > 500
