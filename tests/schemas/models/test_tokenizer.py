"""A tokenizer is what its files say, whatever model they lie beside; and what cannot be one is refused."""

import json
from pathlib import Path

import pytest
from tokenizers import Tokenizer
from transformers import AutoConfig, AutoTokenizer, BertTokenizer

from pipeline.request.request import make_request
from schemas.cache.manifest import read_manifest
from schemas.errors import TokenizerError
from schemas.models.teacher_tokenizer import load_teacher_tokenizer
from schemas.models.tokenizer import load_chosen_tokenizer, load_tokenizer, read_tokenizer
from tests.caches import build_cache, extraction, write_corpus
from tests.tiny import TEXTS, tiny_llama, tiny_tokenizer


@pytest.mark.parametrize("kind", ["bpe", "bytelevel", "unigram", "wordpiece"])
def test_tokenizers_load_with_offsets(kind: str, tmp_path: Path) -> None:
    made = tiny_tokenizer(tmp_path, kind)  # type: ignore[arg-type]
    loaded = load_tokenizer(tmp_path)
    text = "The old miller carried it."
    assert loaded(text)["input_ids"] == made(text)["input_ids"]
    offsets = loaded(text, return_offsets_mapping=True)["offset_mapping"]
    assert max(end for _, end in offsets) == len(text)


def test_folders_without_a_usable_tokenizer(copy: Path) -> None:
    (copy / "tokenizer.json").write_text("{")
    with pytest.raises(TokenizerError, match="cannot load the tokenizer in"):
        load_tokenizer(copy)
    (copy / "tokenizer.json").unlink()
    with pytest.raises(TokenizerError, match="there is no tokenizer in"):
        load_tokenizer(copy)


def test_slow_tokenizers_are_refused(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Slow:
        pass

    monkeypatch.setattr("transformers.AutoTokenizer.from_pretrained", lambda *args, **kwargs: Slow())
    with pytest.raises(TokenizerError, match=r"Slow in .* is a slow tokenizer"):
        load_tokenizer(copy)


def test_a_tokenizer_that_draws_at_random_is_refused(copy: Path) -> None:
    state = json.loads((copy / "tokenizer.json").read_text())
    (copy / "tokenizer.json").write_text(json.dumps({**state, "model": {**state["model"], "dropout": 0.5}}))
    assert len({len(AutoTokenizer.from_pretrained(copy)(TEXTS[0])["input_ids"]) for _ in range(20)}) > 1
    with pytest.raises(TokenizerError, match=r"tokenizer\.json leaves out merges at random .*set it to null"):
        load_tokenizer(copy)


def test_a_vocabulary_alone_is_enough(tmp_path: Path) -> None:
    """Older folders: vocab.txt and no tokenizer.json."""
    (tmp_path / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b"]))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": BertTokenizer.__name__}))
    assert load_tokenizer(tmp_path)("a B")["input_ids"] == [2, 5, 6, 3]


PROBES = [*TEXTS, "In 2024,  it's 1,234.5\n\nRoom 1234 e\u0301"]


def beside(folder: Path, model_type: str) -> Path:
    """A tokenizer of its own in a folder of another model's type."""
    tiny_tokenizer(folder, "bpe")
    AutoConfig.for_model(model_type).save_pretrained(folder)
    return folder


def truth(folder: Path) -> list[list[int]]:
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    return [tokenizer.encode(text).ids for text in PROBES]


def test_tokenizer_json_is_followed_beside_a_qwen2(tmp_path: Path) -> None:
    folder = beside(tmp_path / "own", "qwen2")
    assert AutoTokenizer.from_pretrained(folder)(PROBES)["input_ids"] != truth(folder)  # or there is nothing to see
    loaded = read_tokenizer(folder)
    assert loaded.tokenizer(PROBES)["input_ids"] == truth(folder)
    assert loaded.set_aside == "Qwen2Tokenizer"
    assert load_tokenizer(folder).eos_token == tiny_tokenizer(tmp_path / "again", "bpe").eos_token


@pytest.mark.parametrize("model_type", ["llama", "gpt2", "bert"])
def test_where_the_class_follows_the_file_it_is_kept(tmp_path: Path, model_type: str) -> None:
    folder = beside(tmp_path / "own", model_type)
    assert read_tokenizer(folder).set_aside is None
    assert load_tokenizer(folder)(PROBES)["input_ids"] == truth(folder)


def test_the_rules_that_ran_are_in_the_identity(tmp_path: Path) -> None:
    """Only where they are not AutoTokenizer's: the fingerprints of all other caches hold."""
    identities = {}
    corpus = write_corpus(tmp_path / "corpus.jsonl")
    for name in ("llama", "qwen2"):
        tiny_llama(tmp_path / name, tiny_tokenizer(tmp_path / name))
        if name == "qwen2":
            config = json.loads((tmp_path / name / "config.json").read_text())
            (tmp_path / name / "config.json").write_text(json.dumps(config | {"model_type": name}))
        identities[name] = make_request(extraction(tmp_path / "cache", tmp_path / name, corpus)).manifest.identity
    assert "tokenizer_rules" not in identities["llama"]["teacher"]
    assert identities["qwen2"]["teacher"]["tokenizer_rules"] == "tokenizer.json"


def test_a_caches_tokenizer_opens_by_the_rules_that_ran(tmp_path: Path) -> None:
    """Those of the file where the cache says so; AutoTokenizer's in a cache made before the two were compared."""
    tiny_llama(tmp_path / "teacher", tiny_tokenizer(tmp_path / "teacher"))
    cache = build_cache(extraction(tmp_path / "cache", tmp_path / "teacher", write_corpus(tmp_path / "corpus.jsonl")))
    manifest = read_manifest(cache)
    AutoConfig.for_model("qwen2").save_pretrained(cache / "teacher")
    chosen = load_chosen_tokenizer(cache / "teacher")(PROBES)["input_ids"]
    assert chosen != truth(cache / "teacher")
    assert load_teacher_tokenizer(cache, manifest)(PROBES)["input_ids"] == chosen
    manifest.identity["teacher"]["tokenizer_rules"] = "tokenizer.json"
    assert load_teacher_tokenizer(cache, manifest)(PROBES)["input_ids"] == truth(cache / "teacher")


def test_a_setting_of_another_type_is_refused(tmp_path: Path) -> None:
    """A found case of the fuzz test: transformers compares the number of tokens with it."""
    tiny_tokenizer(tmp_path, "bpe")
    settings = json.loads((tmp_path / "tokenizer_config.json").read_text())
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings | {"model_max_length": {"a": None}}))
    with pytest.raises(TokenizerError, match=r"cannot (tokenize|load)"):
        load_tokenizer(tmp_path)
