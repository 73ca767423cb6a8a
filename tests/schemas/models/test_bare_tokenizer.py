"""A tokenizer without transformers does what the one of transformers does, or is not offered."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from transformers import AddedToken, PreTrainedTokenizerFast

from schemas.models.bare_tokenizer import BareSettings, BareTokenizer, bare_settings
from schemas.models.tokenizer import load_tokenizer
from schemas.models.tokenizer_run import encode_texts
from tests.tiny import TEXTS, Kind, tiny_tokenizer

ODD = ["", "  two\t\r\n", "é日本🙂 ﬁ", "<s>said</s>  <pad>", "[CLS] it [SEP]", "<|end|>  \n<extra> of it"]


def chat_tokens(tokenizer: PreTrainedTokenizerFast) -> None:
    tokens = [AddedToken("<|end|>", special=True, rstrip=True), AddedToken("<extra>", special=False)]
    tokenizer.add_tokens(tokens)


def cut_and_pad(tokenizer: PreTrainedTokenizerFast) -> None:
    tokenizer.backend_tokenizer.enable_truncation(3)
    tokenizer.backend_tokenizer.enable_padding(length=9)


CHANGES: dict[str, Callable[[PreTrainedTokenizerFast], None]] = {
    "as it is": lambda tokenizer: None,
    "added tokens": chat_tokens,
    "cuts and padding": cut_and_pad,
}


@pytest.mark.parametrize("kind", ["bpe", "bytelevel", "unigram", "wordpiece"])
@pytest.mark.parametrize("change", CHANGES)
def test_a_bare_tokenizer_encodes_as_the_whole_one_does(tmp_path: Path, kind: Kind, change: str) -> None:
    made = tiny_tokenizer(tmp_path, kind)
    CHANGES[change](made)
    made.save_pretrained(tmp_path)
    whole = load_tokenizer(tmp_path)
    settings = bare_settings(whole, tmp_path)
    assert settings == BareSettings(whole.eos_token_id)
    bare = BareTokenizer(tmp_path, settings)
    for special in (True, False):
        found, expected = (encode_texts(tokenizer, [*TEXTS, *ODD], special) for tokenizer in (bare, whole))
        for one, other in zip(found, expected, strict=True):
            assert (one.ids, one.offsets, one.special_tokens_mask) == (
                other.ids,
                other.offsets,
                other.special_tokens_mask,
            )
    assert repr(bare.added_tokens_decoder) == repr(whole.added_tokens_decoder)
    assert bare.name_or_path == str(whole.name_or_path)


class WithSteps(PreTrainedTokenizerFast):  # type: ignore[misc]
    def _encode_plus(self, text: Any, **options: Any) -> Any:
        return super()._encode_plus([each.lower() for each in text], **options)


def test_what_transformers_adds_to_the_file_is_noticed(tmp_path: Path) -> None:
    """Settings beside tokenizer.json, and steps of a class: such a tokenizer is left to transformers."""
    tiny_tokenizer(tmp_path, "bpe")
    assert bare_settings(load_tokenizer(tmp_path), tmp_path) is not None
    for changes in ({"add_eos_token": True}, {"extra_special_tokens": ["<new>"]}, {"split_special_tokens": True}):
        whole = PreTrainedTokenizerFast.from_pretrained(tmp_path, **changes)
        assert bare_settings(whole, tmp_path) is None, changes
    assert bare_settings(WithSteps.from_pretrained(tmp_path), tmp_path) is None


def test_a_folder_without_tokenizer_json_has_none(tmp_path: Path) -> None:
    (tmp_path / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b"]))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "BertTokenizer"}))
    assert bare_settings(load_tokenizer(tmp_path), tmp_path) is None
