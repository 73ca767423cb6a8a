"""A GGUF file as the folder of a model, by its path or its URL."""

import json
import logging
import os
from pathlib import Path

import pytest
from gguf import GGUFWriter

from schemas.errors import ModelError, TokenizerError
from schemas.models.files import resolve_model
from schemas.models.hashes import hash_model
from schemas.models.tokenizer import read_tokenizer
from schemas.storage.remote import named
from tests.buckets import Bucket
from tests.gguf_files import tiny_gguf
from tests.tiny import TEXTS


@pytest.fixture(scope="module")
def gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_gguf(tmp_path_factory.mktemp("gguf") / "tiny.gguf", layers=1)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("STILLROOM_CACHE", str(tmp_path / "home"))
    return tmp_path / "home"


def test_config_and_tokenizer_are_the_files_own(gguf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, full = resolve_model(str(gguf), None), gguf.parent / "full"
    assert folder.name == "tiny.gguf" and (folder / "weights.gguf").samefile(gguf)
    config, of_full = (json.loads((each / "config.json").read_text()) for each in (folder, full))
    sizes = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads")
    for name in (*sizes, "model_type", "vocab_size", "tie_word_embeddings", "bos_token_id", "eos_token_id"):
        assert config[name] == of_full[name], name
    loaded, wanted = read_tokenizer(folder).tokenizer, read_tokenizer(full).tokenizer
    assert [loaded(text).input_ids for text in TEXTS] == [wanted(text).input_ids for text in TEXTS]
    assert loaded.eos_token == wanted.eos_token
    monkeypatch.chdir(gguf.parent)
    assert resolve_model("tiny.gguf", None) == folder  # made once
    assert named(f"{folder}/config.json is odd") == f"{gguf}/config.json is odd"


def test_it_is_hashed_by_its_content_and_made_again_when_it_changes(tmp_path: Path, gguf: Path) -> None:
    copy = tmp_path / "other name.gguf"
    copy.write_bytes(gguf.read_bytes())
    copy.chmod(0o400)
    before = hash_model(resolve_model(str(copy), None))
    assert before == hash_model(resolve_model(str(gguf), None)) and set(before) == {"weights", "config", "tokenizer"}
    assert copy.stat().st_mode & 0o777 == 0o400  # what the folder links to is left as it was
    copy.chmod(0o600)
    changed = bytearray(gguf.read_bytes())
    changed[-1] ^= 1
    copy.write_bytes(changed)
    after = hash_model(resolve_model(str(copy), None))
    assert {name for name in after if after[name] != before[name]} == {"weights"}


def test_by_url(bucket: Bucket, gguf: Path) -> None:
    bucket.put("models/tiny.gguf", gguf.read_bytes())
    assert hash_model(resolve_model(f"{bucket.url}/models/tiny.gguf", None)) == hash_model(
        resolve_model(str(gguf), None)
    )


def test_positions_that_are_stretched_are_refused(tmp_path: Path) -> None:
    def stretch(writer: GGUFWriter) -> None:
        writer.add_string("llama.rope.scaling.type", "yarn")

    path = tiny_gguf(tmp_path / "long.gguf", edit=stretch, layers=1)
    with pytest.raises(ModelError, match=r"stretches its positions \(llama.rope.scaling.type: yarn\), which transf"):
        resolve_model(str(path), None)
    assert not list((tmp_path / "home").rglob("config.json"))


def test_what_transformers_does_not_read(gguf: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    content = gguf.read_bytes()
    unknown = tmp_path / "unknown.gguf"
    unknown.write_bytes(content.replace(b"llama", b"amall"))
    with pytest.raises(ModelError, match=r"transformers cannot read .*unknown\.gguf: .*amall.* is not supported"):
        resolve_model(str(unknown), None)
    odd = tmp_path / "odd.gguf"
    odd.write_bytes(content.replace(b"gpt2", b"hash"))  # a tokenizer of a kind that nobody knows
    with caplog.at_level(logging.WARNING):
        folder = resolve_model(str(odd), None)
    assert "makes no tokenizer of" in caplog.text and "name the folder of the model's own in `tokenizer`" in caplog.text
    with pytest.raises(TokenizerError, match="there is no tokenizer in"):
        read_tokenizer(folder)
    os.mkfifo(tmp_path / "pipe.gguf")
    with pytest.raises(
        ModelError, match=r"there is no model folder .*pipe\.gguf; give an existing folder, a GGUF file"
    ):
        resolve_model(str(tmp_path / "pipe.gguf"), None)
