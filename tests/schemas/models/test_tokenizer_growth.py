"""Rules of a tokenizer.json that would make a text too much longer are refused before they run."""

import base64
import json
import time
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

from schemas.errors import TokenizerError
from schemas.models.tokenizer import load_tokenizer
from tests.material import MATERIAL, needs_material
from tests.tiny import TEXTS, tiny_tokenizer


def replace(pattern: str, content: str, kind: str = "String") -> dict[str, Any]:
    return {"type": "Replace", "pattern": {kind: pattern}, "content": content}


def sequence(*parts: dict[str, Any]) -> dict[str, Any]:
    return {"type": "Sequence", "normalizers": list(parts)}


def charsmap(*strings: str) -> dict[str, Any]:
    """SentencePiece's map with an empty trie."""
    content = (4).to_bytes(4, "little") + bytes(4) + b"".join(string.encode() + b"\0" for string in strings)
    return {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(content).decode()}


def folder(path: Path, **changes: object) -> Path:
    tiny_tokenizer(path)
    state = json.loads((path / "tokenizer.json").read_text())
    (path / "tokenizer.json").write_text(json.dumps({**state, **changes}))
    return path


BYTES = {"type": "ByteLevel"}
LAUGHS = [
    sequence(*[replace("e", "ee")] * 40),
    sequence(*[sequence(*[replace("e", "ee")] * 8)] * 5),
    sequence(*[replace("(?=e)", "e", "Regex")] * 40),
    replace(".", "x" * 100_000, "Regex"),
    replace("", "x" * 2_000),
    sequence(*[BYTES] * 12),  # each makes two letters of one beyond ASCII
    sequence(charsmap("e" * 500), charsmap("e" * 500)),
    {"normalizers": [{"pattern": {"String": "e"}, "content": "ee"}] * 40},  # as files were before they named types
]


@pytest.mark.parametrize("normalizer", LAUGHS)
def test_texts_that_would_grow_without_end(tmp_path: Path, normalizer: dict[str, Any]) -> None:
    start = time.monotonic()
    with pytest.raises(TokenizerError, match=r"tokenizer\.json may make a text more than 1,024 times as long"):
        load_tokenizer(folder(tmp_path, normalizer=normalizer))
    assert time.monotonic() - start < 10


def test_pre_tokenizers_and_decoders_are_counted_too(tmp_path: Path) -> None:
    levels = {"type": "Sequence", "pretokenizers": [{**BYTES, "add_prefix_space": False, "trim_offsets": True}] * 12}
    with pytest.raises(TokenizerError, match=r"more than 1,024 times"):
        load_tokenizer(folder(tmp_path / "before", pre_tokenizer=levels))
    decoder = {"type": "Sequence", "decoders": [replace("e", "ee")] * 40}
    with pytest.raises(TokenizerError, match=r"more than 1,024 times"):
        load_tokenizer(folder(tmp_path / "behind", decoder=decoder))


def test_what_is_added_to_every_text_is_bounded(tmp_path: Path) -> None:
    with pytest.raises(TokenizerError, match=r"add more than 1,024 characters or tokens to every text"):
        load_tokenizer(folder(tmp_path / "before", normalizer={"type": "Prepend", "prepend": "x" * 2_000}))
    template = {
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}] * 2_000 + [{"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {"<s>": {"id": "<s>", "ids": [0], "tokens": ["<s>"]}},
    }
    with pytest.raises(TokenizerError, match=r"add more than 1,024 characters or tokens to every text"):
        load_tokenizer(folder(tmp_path / "around", post_processor=template))


XLNET = sequence(
    replace("``", '"'), replace("''", '"'), {"type": "NFKD"}, {"type": "StripAccents"}, {"type": "Lowercase"},
    replace(" {2,}", " ", "Regex"),
)  # fmt: skip


@pytest.mark.parametrize(
    "normalizer", [None, XLNET, sequence({"type": "Prepend", "prepend": "▁"}, replace(" ", "▁")), {"type": "NFC"}]
)
def test_rules_of_real_tokenizers_pass(tmp_path: Path, normalizer: dict[str, Any] | None) -> None:
    assert load_tokenizer(folder(tmp_path, normalizer=normalizer))(TEXTS)["input_ids"]


@needs_material
@pytest.mark.parametrize("name", ["bert-uncased", "gpt2", "llama2", "mistral", "opt", "qwen2"])
def test_real_tokenizers_pass(name: str) -> None:
    """And are the Rust tokenizer that the file describes."""
    folder = MATERIAL / "tokenizers" / name
    file = Tokenizer.from_file(str(folder / "tokenizer.json"))
    assert load_tokenizer(folder)(TEXTS)["input_ids"] == [one.ids for one in file.encode_batch(TEXTS)]
