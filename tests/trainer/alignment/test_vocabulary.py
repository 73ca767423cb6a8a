"""Token identity across spellings, against what the tokenizers themselves decode and encode."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AddedToken, AutoTokenizer, ByT5Tokenizer, PreTrainedTokenizerFast
from transformers.convert_slow_tokenizer import bytes_to_unicode

from schemas.errors import TokenizerError
from schemas.models.tokenizer_rules import same_tokenizer
from tests.material import MATERIAL, needs_material
from tests.tiny import TEXTS, Kind, tiny_tokenizer
from tests.trainer.alignment.spelling import spelt
from trainer.alignment.vocabulary import canonical_pieces, share_vocabulary

TINY: list[Kind] = ["bpe", "bytelevel", "unigram", "wordpiece"]
Tokenizers = dict[str, PreTrainedTokenizerFast]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tokenizers:
    return {kind: tiny_tokenizer(tmp_path_factory.mktemp(kind), kind) for kind in TINY}


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


@pytest.mark.parametrize("student", TINY)
@pytest.mark.parametrize("teacher", TINY)
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


@pytest.mark.parametrize("kind", TINY)
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
    stop = dict.fromkeys(TINY, ".")
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


def test_slow_tokenizers_are_refused(tiny: Tokenizers) -> None:
    slow = ByT5Tokenizer()
    for use in (canonical_pieces, lambda t: share_vocabulary(t, tiny["bpe"]), lambda t: same_tokenizer(t, tiny["bpe"])):
        with pytest.raises(TokenizerError, match="ByT5Tokenizer of this model is a slow tokenizer"):
            use(slow)


def altered(tokenizer: PreTrainedTokenizerFast, change: Callable[[dict[str, Any]], None]) -> PreTrainedTokenizerFast:
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    change(state)
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(json.dumps(state)), eos_token="</s>")


SAME: dict[str, Callable[[dict[str, Any]], None]] = {
    "nothing": lambda state: None,
    "decoder": lambda state: state.update(decoder=None),
    "offsets": lambda state: state["pre_tokenizer"].update(trim_offsets=False),
    "offset processor": lambda state: state.update(
        post_processor={"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}
    ),
    "padding": lambda state: state.update(
        padding={
            "strategy": "BatchLongest",
            "direction": "Left",
            "pad_to_multiple_of": None,
            "pad_id": 0,
            "pad_type_id": 0,
            "pad_token": "<pad>",
        }
    ),
    "truncation": lambda state: state.update(
        truncation={"direction": "Right", "max_length": 7, "strategy": "LongestFirst", "stride": 0}
    ),
    "empty prefix": lambda state: state["model"].update(continuing_subword_prefix=""),
    "a sequence of one": lambda state: state.update(
        pre_tokenizer={"type": "Sequence", "pretokenizers": [state["pre_tokenizer"]]}
    ),
}
OTHER: dict[str, Callable[[dict[str, Any]], None]] = {
    "order of merges": lambda state: state["model"]["merges"].reverse(),
    "normalizer": lambda state: state.update(normalizer={"type": "NFC"}),
    "prefix space": lambda state: state["pre_tokenizer"].update(add_prefix_space=True),
    "begins with a token": lambda state: state.update(
        post_processor={
            "type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [0], "tokens": ["<s>"]}},
        }
    ),
    "two ids exchanged": lambda state: state["model"]["vocab"].update(
        {"a": state["model"]["vocab"]["b"], "b": state["model"]["vocab"]["a"]}
    ),
    "how an added token matches": lambda state: state["added_tokens"][0].update(lstrip=True),
}


@pytest.mark.parametrize("change", SAME)
def test_what_changes_no_id_is_the_same_tokenizer(tiny: Tokenizers, change: str) -> None:
    other = altered(tiny["bytelevel"], SAME[change])
    assert same_tokenizer(tiny["bytelevel"], other)
    backends = [tiny["bytelevel"].backend_tokenizer, other.backend_tokenizer]
    for backend in backends:
        backend.no_truncation()
    assert backends[0].encode(" ".join(TEXTS)).ids == backends[1].encode(" ".join(TEXTS)).ids


@pytest.mark.parametrize("change", OTHER)
def test_what_changes_ids_is_another_tokenizer(tiny: Tokenizers, change: str) -> None:
    assert not same_tokenizer(tiny["bytelevel"], altered(tiny["bytelevel"], OTHER[change]))


def test_a_saved_tokenizer_is_the_same_and_a_retrained_one_is_not(tiny: Tokenizers, tmp_path: Path) -> None:
    for kind, tokenizer in tiny.items():
        tokenizer.save_pretrained(tmp_path / kind)
        tokenizer(TEXTS, padding=True, truncation=True, max_length=8) if tokenizer.pad_token else None
        assert same_tokenizer(tokenizer, AutoTokenizer.from_pretrained(tmp_path / kind))
        assert [kind] == [other for other in TINY if same_tokenizer(tokenizer, tiny[other])]
    assert not same_tokenizer(tiny["bytelevel"], tiny_tokenizer(tmp_path / "larger", "bytelevel", 410))


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
