"""Targets that student and teacher predict from one context, as KD counts them."""

import numpy as np
import pytest
from transformers import PreTrainedTokenizerFast

from schemas.cache.reader import Cache
from schemas.configs.training import StudentConfig
from tests.chats import chat_cache
from trainer.alignment.student_text import StudentText, StudentTokenizer
from trainer.alignment.token_pairs import PairCoverage, measure_pairs, token_positions
from trainer.student.chat_template import conversation_reader


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Cache:
    return Cache(chat_cache(tmp_path_factory.mktemp("pairs")))


def read(cache: Cache, template: str) -> list[StudentText]:
    tokenizer = PreTrainedTokenizerFast.from_pretrained(cache.path / "teacher")
    config = StudentConfig(model="m", chat_template=template)
    reader = conversation_reader(config, tokenizer, cache.path, cache.manifest.conversations)
    return StudentTokenizer(tokenizer, 512, True, reader)([cache.sample(n) for n in range(len(cache))])


def test_in_one_template_every_target_has_its_pair(cache: Cache) -> None:
    texts = read(cache, "teacher")
    drawn = [(cache.sample(n), text) for n, text in enumerate(texts)]
    targets = sum(int(text.target.sum()) for text in texts)
    assert measure_pairs(drawn) == PairCoverage(targets, targets, len(cache))
    for sample, text in drawn:
        np.testing.assert_array_equal(token_positions(sample, text), np.arange(len(sample.token_ids)))


def test_in_two_templates_the_first_token_of_every_answer_has_none(cache: Cache) -> None:
    """What precedes it are the templates' own words. Contents are cut alike, because the words end at their edges."""
    texts = read(cache, "plain")
    drawn = [(cache.sample(n), text) for n, text in enumerate(texts)]
    found = measure_pairs(drawn)
    answers = sum(len(sample.targets) for sample, _ in drawn)
    assert found.targets == sum(int(text.target.sum()) for text in texts)
    assert (found.targets - found.paired, found.same_text) == (answers, 0)
