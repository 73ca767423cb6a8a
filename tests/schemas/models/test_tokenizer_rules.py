"""Whether two tokenizers give the same ids for every text, as their own components say."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from schemas.models.tokenizer_rules import same_encodings, same_tokenizer
from tests.tiny import TEXTS, Kind, tiny_tokenizer

TINY: list[Kind] = ["bpe", "bytelevel", "unigram", "wordpiece"]
Tokenizers = dict[str, PreTrainedTokenizerFast]
BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tokenizers:
    return {kind: tiny_tokenizer(tmp_path_factory.mktemp(kind), kind) for kind in TINY}


def in_sequence(name: str, *parts: dict[str, Any]) -> dict[str, Any]:
    return {"type": "Sequence", name: list(parts)}


def altered(tokenizer: PreTrainedTokenizerFast, change: Callable[[dict[str, Any]], None]) -> PreTrainedTokenizerFast:
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    change(state)
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer.from_str(json.dumps(state)), eos_token="</s>")


def template(*before: str) -> dict[str, Any]:
    """A post-processor that puts special tokens, if any, before the text."""
    return {
        "type": "TemplateProcessing",
        "single": [
            *({"SpecialToken": {"id": token, "type_id": 0}} for token in before),
            {"Sequence": {"id": "A", "type_id": 0}},
        ],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {token: {"id": token, "ids": [0], "tokens": [token]} for token in before},
    }


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
    "what is called special": lambda state: state["added_tokens"][0].update(special=False),
    "a template without tokens": lambda state: state.update(post_processor=template()),
    "the order of added tokens": lambda state: state["added_tokens"].reverse(),
    "a sequence of one": lambda state: state.update(
        pre_tokenizer={"type": "Sequence", "pretokenizers": [state["pre_tokenizer"]]}
    ),
}
OTHER: dict[str, Callable[[dict[str, Any]], None]] = {
    "order of merges": lambda state: state["model"]["merges"].reverse(),
    "normalizer": lambda state: state.update(normalizer={"type": "NFC"}),
    "prefix space": lambda state: state["pre_tokenizer"].update(add_prefix_space=True),
    "begins with a token": lambda state: state.update(post_processor=template("<s>")),
    "falls back to bytes": lambda state: state["model"].update(byte_fallback=True),
    "ignores merges": lambda state: state["model"].update(ignore_merges=True),
    "drops merges": lambda state: state["model"].update(dropout=0.5),
    "begins with a token, in a sequence": lambda state: state.update(
        post_processor=in_sequence("processors", state["post_processor"] or template(), template("<s>"))
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


@pytest.mark.parametrize("change", ["offsets", "offset processor", "what is called special"])
def test_what_moves_characters_or_special_tokens_is_another_encoding(tiny: Tokenizers, change: str) -> None:
    backend = tiny["bytelevel"].backend_tokenizer
    assert not same_encodings(backend, altered(tiny["bytelevel"], SAME[change]).backend_tokenizer)


@pytest.mark.parametrize("change", ["nothing", "decoder", "padding", "truncation", "a template without tokens"])
def test_what_moves_neither_is_the_same_encoding(tiny: Tokenizers, change: str) -> None:
    backend = tiny["bytelevel"].backend_tokenizer
    assert same_encodings(backend, altered(tiny["bytelevel"], SAME[change]).backend_tokenizer)


@pytest.mark.parametrize("change", OTHER)
def test_what_changes_ids_is_another_encoding(tiny: Tokenizers, change: str) -> None:
    backend = tiny["bytelevel"].backend_tokenizer
    assert not same_encodings(backend, altered(tiny["bytelevel"], OTHER[change]).backend_tokenizer)


def test_sequences_are_compared_part_by_part_however_deep(tiny: Tokenizers) -> None:
    nfc, lower, begins = {"type": "NFC"}, {"type": "Lowercase"}, template("<s>")

    def normalised(*parts: dict[str, Any]) -> PreTrainedTokenizerFast:
        sequence = parts[0] if len(parts) == 1 else in_sequence("normalizers", *parts)
        return altered(tiny["bytelevel"], lambda state: state.update(normalizer=sequence))

    def processed(component: dict[str, Any] | None) -> PreTrainedTokenizerFast:
        return altered(tiny["bytelevel"], lambda state: state.update(post_processor=component))

    assert same_tokenizer(normalised(nfc), normalised(in_sequence("normalizers", in_sequence("normalizers", nfc))))
    assert same_tokenizer(normalised(nfc, lower), normalised(in_sequence("normalizers", nfc), lower))
    assert not same_tokenizer(normalised(nfc, lower), normalised(lower, nfc))
    assert not same_tokenizer(normalised(nfc, lower), normalised(nfc))
    nested = in_sequence("processors", BYTE_LEVEL, in_sequence("processors", begins))
    assert same_tokenizer(processed(begins), processed(nested))
    assert same_tokenizer(processed(None), processed(in_sequence("processors", BYTE_LEVEL, template())))
    assert not same_tokenizer(processed(None), processed(begins))


def test_a_saved_tokenizer_is_the_same_and_a_retrained_one_is_not(tiny: Tokenizers, tmp_path: Path) -> None:
    for kind, tokenizer in tiny.items():
        tokenizer.save_pretrained(tmp_path / kind)
        tokenizer(TEXTS, padding=True, truncation=True, max_length=8) if tokenizer.pad_token else None
        assert same_tokenizer(tokenizer, AutoTokenizer.from_pretrained(tmp_path / kind))
        assert [kind] == [other for other in TINY if same_tokenizer(tokenizer, tiny[other])]
    assert not same_tokenizer(tiny["bytelevel"], tiny_tokenizer(tmp_path / "larger", "bytelevel", 410))
