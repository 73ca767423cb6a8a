import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import AutoModel, PreTrainedTokenizerFast

from jobs.commands.evaluation import evaluate
from jobs.evaluate import show_evaluations
from schemas.errors import ConfigError
from schemas.models.sentence_layout import SentenceLayout
from tests.tiny import TEXTS, tiny_bert, tiny_tokenizer
from trainer.evaluation.metrics.spearman import METRIC
from trainer.evaluation.sentence_pairs import SentencePair, read_pairs
from trainer.evaluation.sentence_similarity import embed, evaluate_sentences, spearman
from trainer.student.load import load_sentence_encoder
from trainer.student.sentence_encoder import SentenceEncoder

PAIRS = [SentencePair(TEXTS[i], TEXTS[i + 1], float(i % 5)) for i in range(12)]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[SentenceEncoder, PreTrainedTokenizerFast]:
    folder = tmp_path_factory.mktemp("encoder")
    tokenizer = tiny_tokenizer(folder, "wordpiece")
    return SentenceEncoder(tiny_bert(folder, tokenizer), SentenceLayout("mean", False, 64)).eval(), tokenizer


def naive_ranks(values: list[float]) -> list[float]:
    """One more than how many are smaller, plus half of how many others are equal."""
    return [1 + sum(v < x for v in values) + (sum(v == x for v in values) - 1) / 2 for x in values]


def naive_spearman(x: list[float], y: list[float]) -> float:
    a, b = naive_ranks(x), naive_ranks(y)
    mean = (len(x) + 1) / 2
    product = sum((i - mean) * (j - mean) for i, j in zip(a, b, strict=True))
    return product / math.sqrt(sum((i - mean) ** 2 for i in a) * sum((j - mean) ** 2 for j in b))


def test_spearman_of_known_values() -> None:
    # Without ties it is 1 - 6 sum d^2 / (n (n^2 - 1)): IQ and hours of television, the textbook's -29/165.
    iq = [106, 100, 86, 101, 99, 103, 97, 113, 112, 110]
    hours = [7, 27, 2, 50, 28, 29, 20, 12, 6, 17]
    assert spearman(np.array(iq), np.array(hours)) == pytest.approx(-29 / 165)
    # With ties: ranks 1, 2.5, 2.5, 4 against 1, 3, 2, 4.
    assert spearman(np.array([1, 2, 2, 3]), np.array([1, 3, 2, 4])) == pytest.approx(3 / math.sqrt(10))
    assert spearman(np.array([1, 2, 3]), np.array([5, 5, 5])) == 0.0


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=2, max_size=30))
def test_spearman_against_counting(points: list[tuple[int, int]]) -> None:
    x, y = ([float(point[side]) for point in points] for side in (0, 1))
    if len(set(x)) > 1 and len(set(y)) > 1:
        assert spearman(np.array(x), np.array(y)) == pytest.approx(naive_spearman(x, y), abs=1e-12)
        # Only the order counts.
        assert spearman(np.exp(x), 3 * np.array(y) - 7) == pytest.approx(spearman(np.array(x), np.array(y)))


def test_agrees_with_cosines_one_by_one(pair: tuple[SentenceEncoder, PreTrainedTokenizerFast]) -> None:
    model, tokenizer = pair
    similarities = []
    for item in PAIRS:
        first, second = (
            model.model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0].mean(0).detach().double()
            for text in (item.first, item.second)
        )
        similarities.append(float(first @ second / (first.norm() * second.norm())))
    found = evaluate_sentences(model.train(), tokenizer, PAIRS)
    assert model.training and found.pairs == len(PAIRS)
    assert found.spearman == pytest.approx(100 * naive_spearman(similarities, [item.score for item in PAIRS]))
    assert found.metrics() == {"spearman": found.spearman}
    one, many = (embed(model, tokenizer, TEXTS, batch_tokens=size) for size in (1, 4096))
    np.testing.assert_allclose(one, many, rtol=1e-4, atol=1e-5)


def test_a_model_that_sees_no_difference_ranks_nothing(pair: tuple[SentenceEncoder, PreTrainedTokenizerFast]) -> None:
    _, tokenizer = pair
    blind = AutoModel.from_config(pair[0].config, dtype=torch.float32)
    with torch.no_grad():
        for parameter in blind.parameters():
            parameter.zero_()
    assert evaluate_sentences(SentenceEncoder(blind, pair[0].layout), tokenizer, PAIRS).spearman == 0.0


def test_the_command_ranks_encoders(
    pair: tuple[SentenceEncoder, PreTrainedTokenizerFast], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, tokenizer = pair
    for name, pooling in (("mean", "mean"), ("cls", "cls")):
        saved = SentenceEncoder(model.model, SentenceLayout(pooling, True, 48))  # type: ignore[arg-type]
        saved.save_pretrained(tmp_path / name)
        tokenizer.save_pretrained(tmp_path / name)
    rows = "".join(f'"{item.first}","{item.second}",{item.score}\n' for item in PAIRS)
    (tmp_path / "pairs.csv").write_text(rows, encoding="utf-8")
    show_evaluations([tmp_path / "cls", tmp_path / "mean"], METRIC, read_pairs(tmp_path / "pairs.csv"))
    shown = capsys.readouterr().out
    values = {
        name: evaluate_sentences(load_sentence_encoder(tmp_path / name), tokenizer, PAIRS).spearman
        for name in ("mean", "cls")
    }
    assert all(f"{value:.2f}" in shown for value in values.values()) and "48" in shown
    best, worst = sorted(values, key=lambda name: -values[name])
    assert shown.index(f"{values[best]:.2f}") < shown.index(f"{values[worst]:.2f}")


def test_the_command_wants_one_kind_of_material(tmp_path: Path) -> None:
    for material in ({}, {"text": tmp_path / "a.txt", "pairs": tmp_path / "b.csv"}):
        with pytest.raises(ConfigError, match="--text for language models, or --pairs for sentence encoders"):
            evaluate([tmp_path], **material)  # type: ignore[arg-type]
