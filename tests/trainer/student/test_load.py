"""Students that cannot be trained are refused before a step, in one message."""

import json
from pathlib import Path

import pytest
import torch
import transformers as tf

from schemas.configs.training import StudentConfig
from schemas.errors import ModelError
from schemas.models.sentence_layout import SentenceLayout, write_layout
from tests.tiny import tiny_bert, tiny_tokenizer
from trainer.data.batch import Batch
from trainer.student.load import forward, load_student

SIZE = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 1, "num_attention_heads": 2}


def architecture(folder: Path, max_tokens: int, kind: str = "causal", **sizes: object) -> StudentConfig:
    settings = {"kind": kind, "architecture": SIZE | sizes, "tokenizer": str(folder), "max_tokens": max_tokens}
    return StudentConfig.model_validate(settings)


def test_a_roberta_at_its_position_limit(tmp_path: Path) -> None:
    """It counts positions from behind padding, so two of 66 are never used."""
    tokenizer = tiny_tokenizer(tmp_path, "wordpiece")
    padding = tokenizer.pad_token_id
    sizes = {"model_type": "xlm-roberta", "max_position_embeddings": padding + 65, "pad_token_id": padding}
    load_student(architecture(tmp_path, 64, "encoder", **sizes), tokenizer)
    with pytest.raises(ModelError, match=r"^student\.max_tokens is 65, but the student has only 64 positions; set at"):
        load_student(architecture(tmp_path, 65, "encoder", **sizes), tokenizer)


def test_a_student_is_tried_at_its_full_length(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = tiny_tokenizer(tmp_path)
    forward = tf.LlamaModel.forward

    def limited(self: tf.LlamaModel, input_ids: torch.Tensor, **kwargs: object) -> object:
        if input_ids.shape[1] > 40:
            raise RuntimeError("index 41 is out of bounds")
        return forward(self, input_ids=input_ids, **kwargs)

    monkeypatch.setattr(tf.LlamaModel, "forward", limited)
    load_student(architecture(tmp_path, 40, model_type="llama"), tokenizer)
    wanted = r"^LlamaForCausalLM cannot be run over 41 tokens \(student\.max_tokens\): index 41 is out of bounds$"
    with pytest.raises(ModelError, match=wanted):
        load_student(architecture(tmp_path, 41, model_type="llama"), tokenizer)


def test_a_tokenizer_with_ids_beyond_the_students_is_refused(tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer(tmp_path, vocab=300)
    with pytest.raises(ModelError, match="the student has 299 embeddings for a tokenizer of 300 tokens"):
        load_student(architecture(tmp_path, 40, model_type="llama", vocab_size=299), tokenizer)


def test_errors_of_a_step_are_one_message(tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer(tmp_path)
    student = load_student(architecture(tmp_path, 40, model_type="llama"), tokenizer)
    tokens_BS = torch.full((2, 3), 100_000)
    mask_BS = torch.ones_like(tokens_BS, dtype=torch.bool)
    batch = Batch(("a", "b"), tokens_BS, mask_BS, mask_BS, tokens_BS, mask_BS, mask_BS, {})
    with pytest.raises(ModelError, match=r"^\w+ cannot be run over a batch of 2 × 3 tokens: "):
        forward(student, batch, [])


def test_two_students_of_one_seed_start_alike_whatever_is_checked(tmp_path: Path) -> None:
    """The checks draw nothing from the generator that dropout and the next weights come from."""
    tokenizer = tiny_tokenizer(tmp_path)
    torch.manual_seed(5)
    load_student(architecture(tmp_path, 16, "encoder", model_type="bert"), tokenizer)
    after = torch.random.get_rng_state()
    torch.manual_seed(5)
    load_student(architecture(tmp_path, 64, "encoder", model_type="bert"), tokenizer)
    assert torch.equal(torch.random.get_rng_state(), after)


def test_a_sentence_encoder_is_trained_as_it_pools(tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer(tmp_path, "wordpiece")
    tiny_bert(tmp_path, tokenizer)
    write_layout(tmp_path, SentenceLayout("cls", True, 48), 32)
    settings = {"kind": "encoder", "model": str(tmp_path), "max_tokens": 32}
    with pytest.raises(ModelError, match=r"student\.pooling is mean, but .* by cls \(modules\.json\): set it to cls"):
        load_student(StudentConfig.model_validate(settings), tokenizer)
    student = load_student(StudentConfig.model_validate(settings | {"pooling": "cls"}), tokenizer)
    assert student.layout == SentenceLayout("cls", True, 32)
    modules = json.loads((tmp_path / "modules.json").read_text())
    modules.insert(2, {"idx": 2, "name": "2", "path": "2_Dense", "type": "sentence_transformers.models.Dense"})
    (tmp_path / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(ModelError, match="lists Transformer, Pooling, Dense, Normalize; only"):
        load_student(StudentConfig.model_validate(settings | {"pooling": "cls"}), tokenizer)


def test_a_student_is_not_quantised(tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer(tmp_path)
    tf.LlamaForCausalLM(tf.LlamaConfig(**SIZE, vocab_size=len(tokenizer))).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    settings = {"quantization_config": {"quant_method": "bitsandbytes", "load_in_4bit": True}}
    (tmp_path / "config.json").write_text(json.dumps(config | settings))
    student = StudentConfig.model_validate({"model": str(tmp_path), "max_tokens": 8})
    with pytest.raises(
        ModelError, match=r"^student\.model: .* is quantised, and packed weights learn nothing; or give"
    ):
        load_student(student, tokenizer)
