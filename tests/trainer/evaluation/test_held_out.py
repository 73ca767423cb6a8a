"""What a run is measured on, and its results as records."""

from dataclasses import asdict
from pathlib import Path

import pytest
import torch

from schemas.configs.training import EvaluationConfig
from schemas.errors import CorpusError
from tests.tiny import TEXTS, tiny_llama, tiny_tokenizer
from trainer.evaluation.bits_per_byte import Evaluation, evaluate
from trainer.evaluation.held_out import HeldOut, read_result
from trainer.evaluation.sentence_similarity import SentenceEvaluation


def test_a_causal_student_is_measured_on_texts_and_left_as_it_was(tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer(tmp_path / "model", "bpe")
    model = tiny_llama(tmp_path / "model", tokenizer).train()
    (tmp_path / "held.txt").write_text("\n".join(TEXTS[:4]))
    held = HeldOut(EvaluationConfig(texts=str(tmp_path / "held.txt"), limit=3), 32)
    device = torch.device("cpu")
    found = held(model, tokenizer, device)
    assert held.texts == TEXTS[:3] and held.pairs == [] and model.training
    assert found == evaluate(model, tokenizer, TEXTS[:3], 32, device)


def test_results_are_read_back_as_what_they_are() -> None:
    for kind in (Evaluation, SentenceEvaluation):
        fields = dict.fromkeys(kind.__dataclass_fields__, 1.5)
        assert read_result(fields) == kind(**fields)  # type: ignore[arg-type]
        assert asdict(read_result(fields)) == fields


def test_nothing_to_measure_on_is_refused(tmp_path: Path) -> None:
    (tmp_path / "held.txt").write_text(" \n")
    with pytest.raises(CorpusError, match=r"held\.txt holds no text to evaluate on"):
        HeldOut(EvaluationConfig(texts=str(tmp_path / "held.txt")), 32)
