"""What is kept of a teacher: a student's side must get its logits and its tokens from it, to the bit."""

import hashlib
import json
from pathlib import Path

import pytest
import torch
import transformers as tf
from safetensors.torch import load_file

from pipeline.teacher.files import save_teacher_files
from pipeline.teacher.run import Teacher
from schemas.cache.manifest import EMBEDDINGS, UNEMBEDDING
from schemas.cache.teacher import EmbeddingRecord
from schemas.configs.extraction import TeacherConfig
from schemas.configs.states import StatesConfig
from schemas.errors import ResourceError, TokenizerError
from schemas.models.files import TOKENIZER_FILES
from schemas.models.hashes import hash_model
from schemas.models.tokenizer import load_tokenizer
from tests.teachers import make_teacher
from tests.tiny import TEXTS, tiny_bert, tiny_llama, tiny_tokenizer

STATES = StatesConfig(hidden=["last"], mass=[])


def load(folder: Path, **config: object) -> Teacher:
    return make_teacher(
        TeacherConfig.model_validate({"model": str(folder), "max_tokens": 64, **config}), STATES, folder, None
    )


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_head_and_tokenizer_of_a_causal_teacher(dtype: str, tmp_path: Path) -> None:
    model = tiny_llama(tmp_path / "model", tiny_tokenizer(tmp_path / "model", "bpe"))
    teacher = load(tmp_path / "model", dtype=dtype)
    save_teacher_files(teacher, tmp_path / "kept")
    assert sorted(contents(tmp_path / "kept")) == [
        "config.json",
        "files.json",
        "tokenizer.json",
        "tokenizer_config.json",
        UNEMBEDDING,
    ]
    record = json.loads((tmp_path / "kept" / "files.json").read_text())
    assert (record["format"], record["version"]) == ("stillroom-teacher", 1)
    files = {name: content for name, content in contents(tmp_path / "kept").items() if name != "files.json"}
    assert record["files"] == {
        name: {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()} for name, content in files.items()
    }
    kept = load_file(tmp_path / "kept" / UNEMBEDDING)
    assert list(kept) == ["weight"]
    assert torch.equal(kept["weight"], model.lm_head.weight.detach().to(getattr(torch, dtype)))
    assert teacher.record.head is not None and teacher.record.head.dtype == dtype
    assert hash_model(tmp_path / "kept")["tokenizer"] == hash_model(tmp_path / "model")["tokenizer"]
    before, after = load_tokenizer(tmp_path / "model"), load_tokenizer(tmp_path / "kept")
    assert before(TEXTS)["input_ids"] == after(TEXTS)["input_ids"]


def test_saving_again_gives_the_same_bytes(tmp_path: Path) -> None:
    tiny_llama(tmp_path / "model", tiny_tokenizer(tmp_path / "model"))
    save_teacher_files(load(tmp_path / "model"), tmp_path / "kept")
    first = contents(tmp_path / "kept")
    save_teacher_files(load(tmp_path / "model"), tmp_path / "kept")
    save_teacher_files(load(tmp_path / "model"), tmp_path / "deep" / "other")
    assert contents(tmp_path / "kept") == contents(tmp_path / "deep" / "other") == first


def test_tied_head_with_bias(tmp_path: Path) -> None:
    torch.manual_seed(0)
    config = tf.PhiConfig(
        vocab_size=400, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        tie_word_embeddings=True, initializer_range=0.3,
    )  # fmt: skip
    model = tf.PhiForCausalLM(config)
    torch.nn.init.normal_(model.lm_head.bias)
    model.save_pretrained(tmp_path / "model")
    tiny_tokenizer(tmp_path / "model")
    save_teacher_files(load(tmp_path / "model"), tmp_path / "kept")
    kept = load_file(tmp_path / "kept" / UNEMBEDDING)
    ids = torch.arange(7)[None]
    with torch.no_grad():
        output = model.eval()(input_ids=ids, output_hidden_states=True)
        logits = output.hidden_states[-1] @ kept["weight"].T + kept["bias"]
    assert (logits - output.logits).abs().max() < 1e-4


def test_encoders_keep_no_head_and_a_named_tokenizer_is_the_one_kept(tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer(tmp_path / "named", "wordpiece")
    tiny_bert(tmp_path / "model", tokenizer)
    for name in TOKENIZER_FILES:
        (tmp_path / "model" / name).unlink(missing_ok=True)
    with pytest.raises(TokenizerError, match="there is no tokenizer in"):
        save_teacher_files(load(tmp_path / "model", kind="encoder"), tmp_path / "kept")
    assert not (tmp_path / "kept").exists()
    named = load(tmp_path / "model", kind="encoder", tokenizer=str(tmp_path / "named"))
    save_teacher_files(named, tmp_path / "kept")
    assert named.record.head is None
    assert sorted(contents(tmp_path / "kept")) == ["files.json", "tokenizer.json", "tokenizer_config.json"]
    assert load_tokenizer(tmp_path / "kept")(TEXTS[0])["input_ids"] == tokenizer(TEXTS[0])["input_ids"]


def qwen2(folder: Path, vocab_size: int) -> None:
    size = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}
    tf.Qwen2ForCausalLM(tf.Qwen2Config(vocab_size=vocab_size, num_key_value_heads=2, **size)).save_pretrained(folder)


def test_a_named_tokenizer_is_kept_as_it_tokenized_whatever_the_teacher(tmp_path: Path) -> None:
    """AutoTokenizer replaces a tokenizer's rules by Qwen2's where a Qwen2's config.json lies beside it."""
    tokenizer = tiny_tokenizer(tmp_path / "named", "bpe")
    qwen2(tmp_path / "model", len(tokenizer))
    save_teacher_files(load(tmp_path / "model", tokenizer=str(tmp_path / "named")), tmp_path / "kept")
    assert load_tokenizer(tmp_path / "kept")(TEXTS)["input_ids"] == tokenizer(TEXTS)["input_ids"]
    # A config.json of that model beside it changes nothing.
    qwen2(tmp_path / "named", len(tokenizer))
    save_teacher_files(load(tmp_path / "model", tokenizer=str(tmp_path / "named")), tmp_path / "again")
    assert load_tokenizer(tmp_path / "again")(TEXTS)["input_ids"] == tokenizer(TEXTS)["input_ids"]


OWN_CODE = """
from tokenizers import normalizers
from transformers import PreTrainedTokenizerFast


class Own(PreTrainedTokenizerFast):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.backend_tokenizer.normalizer = normalizers.Lowercase()
"""


def test_a_tokenizer_that_needs_its_own_code_is_refused(tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer(tmp_path / "named", "bpe")
    qwen2(tmp_path / "model", len(tokenizer))
    (tmp_path / "named" / "own.py").write_text(OWN_CODE)
    path = tmp_path / "named" / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"auto_map": {"AutoTokenizer": [None, "own.Own"]}}))
    teacher = load(tmp_path / "model", tokenizer=str(tmp_path / "named"), trust_remote_code=True)
    with pytest.raises(TokenizerError, match="own code"):
        save_teacher_files(teacher, tmp_path / "kept")
    assert not (tmp_path / "kept").exists()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_input_embeddings_are_kept_on_request(dtype: str, tmp_path: Path) -> None:
    """Of a tied model too, and of an encoder, which keeps no head."""
    tokenizer = tiny_tokenizer(tmp_path / "llama")
    truths = {"llama": tiny_llama(tmp_path / "llama", tokenizer).model.embed_tokens.weight}
    tied = tf.GPT2LMHeadModel(tf.GPT2Config(vocab_size=len(tokenizer), n_embd=32, n_layer=1, n_head=4, n_positions=64))
    tied.save_pretrained(tmp_path / "gpt2")
    tokenizer.save_pretrained(tmp_path / "gpt2")
    truths["gpt2"] = tied.transformer.wte.weight
    bert = tiny_bert(tmp_path / "bert", tiny_tokenizer(tmp_path / "bert", "wordpiece"))
    truths["bert"] = bert.embeddings.word_embeddings.weight
    for name, truth in truths.items():
        kind = "encoder" if name == "bert" else "causal"
        teacher = load(tmp_path / name, kind=kind, dtype=dtype, keep_embeddings=True)
        save_teacher_files(teacher, tmp_path / "kept" / name)
        kept = load_file(tmp_path / "kept" / name / EMBEDDINGS)
        assert list(kept) == ["weight"] and torch.equal(kept["weight"], truth.detach().to(getattr(torch, dtype)))
        assert teacher.record.embedding == EmbeddingRecord(dtype=dtype, rows=len(truth), width=32)
        assert load(tmp_path / name, kind=kind, dtype=dtype).record.embedding is None


def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny_llama(tmp_path / "model", tiny_tokenizer(tmp_path / "model"))
    teacher = load(tmp_path / "model")

    def fail(tensors: object, path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pipeline.teacher.files.save_file", fail)
    with pytest.raises(ResourceError, match="no space left to write teacher of"):
        save_teacher_files(teacher, tmp_path / "cache" / "teacher")
    assert list((tmp_path / "cache").iterdir()) == []
