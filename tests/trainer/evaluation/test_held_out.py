"""What a run is measured on, and its results as records."""

import hashlib
from pathlib import Path

import pytest
import torch

from schemas.configs.training import EvaluationConfig, StudentConfig
from schemas.errors import CorpusError, RunError
from tests.tiny import TEXTS, tiny_llama, tiny_tokenizer
from trainer.evaluation.bits_per_byte import evaluate
from trainer.evaluation.held_out import HeldOut, hash_material
from trainer.evaluation.sentence_pairs import SentencePair

STUDENT = StudentConfig(model="a/student", max_tokens=32)


def test_a_causal_student_is_measured_on_texts_and_left_as_it_was(tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer(tmp_path / "model", "bpe")
    model = tiny_llama(tmp_path / "model", tokenizer).train()
    (tmp_path / "held.txt").write_text("\n".join(TEXTS[:4]))
    held = HeldOut(EvaluationConfig(texts=str(tmp_path / "held.txt"), limit=3), STUDENT)
    device = torch.device("cpu")
    found = held(model, tokenizer, device)
    assert held.material == TEXTS[:3] and model.training
    assert found == evaluate(model, tokenizer, TEXTS[:3], 32, device)


def test_a_hash_is_of_what_was_read_and_not_of_its_file(tmp_path: Path) -> None:
    (tmp_path / "held.txt").write_text("one\ntwo\n\n")
    (tmp_path / "held.jsonl").write_text('{"story": "one"}\n{"story": "two"}\n{"story": "three"}\n')
    texts = HeldOut(EvaluationConfig(texts=str(tmp_path / "held.txt")), STUDENT)
    truth = hashlib.sha256(b'"one"\n"two"\n').hexdigest()
    assert texts.hash == truth
    assert HeldOut(EvaluationConfig(texts=str(tmp_path / "held.jsonl"), field="story", limit=2), STUDENT).hash == truth
    pairs = [SentencePair("a", "b", 1.0), SentencePair("c", "d", 2.5)]
    lines = b'{"first":"a","score":1.0,"second":"b"}\n{"first":"c","score":2.5,"second":"d"}\n'
    assert hash_material(pairs) == hashlib.sha256(lines).hexdigest()


def test_nothing_to_measure_on_is_refused(tmp_path: Path) -> None:
    (tmp_path / "held.txt").write_text(" \n")
    with pytest.raises(CorpusError, match=r"held\.txt holds no text to evaluate on"):
        HeldOut(EvaluationConfig(texts=str(tmp_path / "held.txt")), STUDENT)


def test_a_figure_that_is_not_finite_is_refused(tmp_path: Path) -> None:
    """It would go into run.json, which then could not be read."""
    tokenizer = tiny_tokenizer(tmp_path / "model", "bpe")
    model = tiny_llama(tmp_path / "model", tokenizer)
    (tmp_path / "held.txt").write_text(TEXTS[0])
    held = HeldOut(EvaluationConfig(texts=str(tmp_path / "held.txt")), STUDENT)
    with torch.no_grad():
        model.lm_head.weight.fill_(torch.nan)
    with pytest.raises(RunError, match=r"^bits_per_byte of what is held out is not a finite number \(.*nan"):
        held(model, tokenizer, torch.device("cpu"))
