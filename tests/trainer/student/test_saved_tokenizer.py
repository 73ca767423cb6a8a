"""A student's tokenizer is saved as the one it was trained with, whatever AutoTokenizer makes of its architecture."""

import json
import os
import resource
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoTokenizer, PreTrainedTokenizerFast, Qwen2Tokenizer

from schemas.configs.training import StudentConfig
from schemas.errors import ResourceError, TokenizerError
from schemas.models.tokenizer import load_tokenizer
from tests.tiny import TEXTS, Kind, tiny_tokenizer
from trainer.evaluation.bits_per_byte import evaluate, load_for_evaluation
from trainer.student import saved_tokenizer
from trainer.student.load import load_student
from trainer.student.saved_tokenizer import require_savable, save_tokenizer

FILES = ["config.json", "tokenizer.json", "tokenizer_config.json"]
# Digits, spaces, line ends and composed characters, which Qwen2's rules treat in their own way.
PROBES = [*TEXTS, "In 2024,  it's 1,234.5\n\n<s> e\u0301 [CLS]\tx"]


def save(folder: Path, model_type: str, kind: Kind) -> PreTrainedTokenizerFast:
    tokenizer = tiny_tokenizer(folder.with_name("made"), kind)
    AutoConfig.for_model(model_type).save_pretrained(folder)
    save_tokenizer(tokenizer, folder)
    return tokenizer


@pytest.mark.parametrize("kind", ["bpe", "bytelevel", "unigram", "wordpiece"])
@pytest.mark.parametrize("model_type", ["llama", "gpt2", "qwen3"])
def test_most_architectures_leave_a_tokenizer_alone(tmp_path: Path, model_type: str, kind: Kind) -> None:
    tokenizer = save(tmp_path / "model", model_type, kind)
    assert sorted(os.listdir(tmp_path / "model")) == FILES
    assert load_tokenizer(tmp_path / "model")(PROBES)["input_ids"] == tokenizer(PROBES)["input_ids"]


@pytest.mark.parametrize("kind", ["bpe", "bytelevel", "wordpiece"])
def test_qwen2s_rules_do_not_replace_those_of_another_tokenizer(tmp_path: Path, kind: Kind) -> None:
    """Opened with or without remote code, and when what was opened is saved once more, as by who trains it further."""
    tokenizer = save(tmp_path / "model", "qwen2", kind)
    truth = tokenizer(PROBES)["input_ids"]
    assert Qwen2Tokenizer.from_pretrained(tmp_path / "made")(PROBES)["input_ids"] != truth  # or there is nothing to see
    assert sorted(os.listdir(tmp_path / "model")) == sorted([*FILES, "plain_tokenizer.py"])
    opened = [
        AutoTokenizer.from_pretrained(tmp_path / "model", trust_remote_code=trust) for trust in (None, False, True)
    ]
    for number, found in enumerate(opened):
        assert found(PROBES)["input_ids"] == truth
        assert found.special_tokens_map == tokenizer.special_tokens_map
        AutoConfig.for_model("qwen2").save_pretrained(tmp_path / str(number))
        found.save_pretrained(tmp_path / str(number))
        assert AutoTokenizer.from_pretrained(tmp_path / str(number))(PROBES)["input_ids"] == truth


OWN_CODE = """
from tokenizers import normalizers
from transformers import PreTrainedTokenizerFast


class Own(PreTrainedTokenizerFast):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.backend_tokenizer.normalizer = normalizers.Lowercase()
"""


def test_a_tokenizer_with_code_of_its_own_is_saved_to_open_without(tmp_path: Path) -> None:
    tiny_tokenizer(tmp_path / "own", "bpe")
    (tmp_path / "own" / "own.py").write_text(OWN_CODE)
    path = tmp_path / "own" / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"auto_map": {"AutoTokenizer": [None, "own.Own"]}}))
    tokenizer = load_tokenizer(tmp_path / "own", trust_remote_code=True)
    AutoConfig.for_model("llama").save_pretrained(tmp_path / "model")
    save_tokenizer(tokenizer, tmp_path / "model")
    assert load_tokenizer(tmp_path / "model")("THE Old")["input_ids"] == tokenizer("the old")["input_ids"]


def student(folder: Path) -> StudentConfig:
    size = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    architecture = {"model_type": "qwen2", "num_key_value_heads": 2, **size}
    return StudentConfig(architecture=architecture, tokenizer=str(folder), max_tokens=64)


def test_a_student_is_evaluated_from_its_folder_as_while_it_trained(tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer(tmp_path / "tokenizer", "bpe")
    torch.manual_seed(0)
    model = load_student(student(tmp_path / "tokenizer"), tokenizer)
    model.save_pretrained(tmp_path / "model")
    save_tokenizer(tokenizer, tmp_path / "model")
    while_training = evaluate(model, tokenizer, TEXTS, 64)
    assert evaluate(*load_for_evaluation(tmp_path / "model"), TEXTS, 64) == while_training


def test_what_cannot_be_saved_is_refused_before_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = tiny_tokenizer(tmp_path / "tokenizer", "bpe")
    monkeypatch.setattr(saved_tokenizer, "_pin", lambda folder: None)
    with pytest.raises(TokenizerError, match="AutoTokenizer does not open"):
        load_student(student(tmp_path / "tokenizer"), tokenizer)


def test_no_place_for_temporary_files_is_one_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = tiny_tokenizer(tmp_path / "tokenizer", "bpe")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "there is none"))
    with pytest.raises(ResourceError, match=r"cannot write the student's tokenizer to a temporary folder .*TMPDIR"):
        load_student(student(tmp_path / "tokenizer"), tokenizer)


def test_a_full_place_for_temporary_files_is_one_message(tmp_path: Path) -> None:
    """The tokenizers' own code raises a bare Exception for it; the limit on file size stands for the full place."""
    tokenizer = tiny_tokenizer(tmp_path / "tokenizer", "bpe")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8 << 10, limits[1]))
    try:
        with pytest.raises(ResourceError, match=r"tokenizer to a temporary folder .*File too large.*TMPDIR"):
            require_savable(tokenizer, AutoConfig.for_model("llama"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
