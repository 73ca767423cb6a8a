"""Model folders: found, refused in words, hashed; tokenizers loaded. No network."""

import json
import shutil
from pathlib import Path

import pytest
from huggingface_hub import constants
from transformers import BertTokenizer

from schemas.errors import ModelError, TokenizerError
from schemas.models.files import read_json, resolve_model
from schemas.models.hashes import hash_model
from schemas.models.tokenizer import load_tokenizer
from schemas.models.weights import find_weights
from tests.tiny import tiny_llama, tiny_tokenizer


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    tiny_llama(folder, tiny_tokenizer(folder, "bytelevel"), layers=1)
    return folder


@pytest.fixture
def copy(model: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(model, tmp_path / "copy"))


def edit(path: Path, **changes: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_a_local_folder_wins(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(model.parent)
    assert resolve_model(str(model), "main") == model.resolve()
    assert resolve_model(model.name, None) == model.resolve()


def test_a_models_own_code_counts_where_it_may_run(copy: Path) -> None:
    before = hash_model(copy)
    (copy / "modeling_own.py").write_text("WIDTH = 1\n")
    assert hash_model(copy) == before
    first = hash_model(copy, trust_remote_code=True)
    assert {part for part in first if first[part] != before.get(part)} == {"code"}
    (copy / "modeling_own.py").write_text("WIDTH = 2\n")
    second = hash_model(copy, trust_remote_code=True)
    assert {part for part in first if first[part] != second[part]} == {"code"}
    (copy / "modeling_own.py").unlink()
    assert hash_model(copy, trust_remote_code=True) == before


@pytest.mark.parametrize("name", ["x" * 300, "a/" + "x" * 300, "~nobody-at-all/model"])
def test_a_name_that_cannot_be_looked_up(name: str) -> None:
    with pytest.raises(ModelError, match=name):
        resolve_model(name, None)


@pytest.mark.parametrize("weight_map", [[], {"a": 1}, None, "model.safetensors"])
def test_a_damaged_index_is_refused(copy: Path, weight_map: object) -> None:
    (copy / "model.safetensors").unlink()
    (copy / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    with pytest.raises(ModelError, match=r"model\.safetensors\.index\.json is damaged: `weight_map`"):
        find_weights(copy)


@pytest.mark.parametrize("name", ["/nowhere/model", "./model", "~/no-such-model", "a/b/c"])
def test_a_path_that_is_not_there_is_never_looked_up(name: str) -> None:
    with pytest.raises(ModelError, match=f"there is no model folder {name}"):
        resolve_model(name, None)


def test_offline_names_the_way_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelError, match=r"no model nobody/none at revision v1 .*give a local folder"):
        resolve_model("nobody/none", "v1")
    with pytest.raises(ModelError, match="not! an id is no local folder"):
        resolve_model("not! an id", None)


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


def test_a_vocabulary_alone_is_enough(tmp_path: Path) -> None:
    """Older folders: vocab.txt and no tokenizer.json."""
    (tmp_path / "vocab.txt").write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b"]))
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": BertTokenizer.__name__}))
    assert load_tokenizer(tmp_path)("a B")["input_ids"] == [2, 5, 6, 3]


def test_hashes_change_with_their_part_alone(model: Path, copy: Path) -> None:
    first = hash_model(model)
    assert sorted(first) == ["config", "tokenizer", "weights"]
    edit(copy / "config.json", transformers_version="0", _name_or_path="elsewhere", dtype="bfloat16", use_cache=False)
    (copy / "README.md").write_text("not part of it")
    assert hash_model(copy) == first
    edit(copy / "config.json", rms_norm_eps=0.5)
    second = hash_model(copy)
    assert {part for part in first if first[part] != second[part]} == {"config"}
    edit(copy / "tokenizer_config.json", model_max_length=5)
    third = hash_model(copy)
    assert {part for part in first if third[part] != second[part]} == {"tokenizer"}
    weights = bytearray((copy / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (copy / "model.safetensors").write_bytes(weights)
    assert {part for part in first if hash_model(copy)[part] != third[part]} == {"weights"}


def test_a_folder_with_a_tokenizer_alone(copy: Path) -> None:
    (copy / "model.safetensors").unlink()
    (copy / "config.json").unlink()
    assert list(hash_model(copy)) == ["tokenizer"]
    with pytest.raises(ModelError, match="holds no weights"):
        find_weights(copy)


def test_sharded_weights(copy: Path) -> None:
    (copy / "model.safetensors").rename(copy / "model-00001-of-00002.safetensors")
    names = [f"model-0000{i}-of-00002.safetensors" for i in (1, 2)]
    (copy / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": names[1], "b": names[0]}}))
    with pytest.raises(ModelError, match=r"lacks model-00002-of-00002\.safetensors, which model\.safetensors\.index"):
        find_weights(copy)
    (copy / names[1]).write_bytes(b"x")
    assert [path.name for path in find_weights(copy)] == ["model.safetensors.index.json", *names]


def test_pickled_weights_are_refused(copy: Path) -> None:
    (copy / "model.safetensors").rename(copy / "pytorch_model.bin")
    with pytest.raises(ModelError, match=r"only as pytorch_model.bin; pickles are not read.*convert it to safetensors"):
        hash_model(copy)


def test_damaged_json(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("[1]")
    with pytest.raises(ModelError, match="not a JSON object"):
        read_json(tmp_path / "config.json")
    for content in ("{", "[" * 100_000):
        (tmp_path / "config.json").write_text(content)
        with pytest.raises(ModelError, match="cannot read"):
            hash_model(tmp_path)
