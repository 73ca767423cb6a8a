"""The demo's tokenizers lose no character, and its schedule warms up and comes down to nothing."""

import math

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from jobs.demo.corpus import stories
from jobs.demo.teacher import _loss, _one_cycle, byte_level_tokenizer, sentencepiece_tokenizer

STORIES = stories(60)
BYTE_LEVEL, PIECES = byte_level_tokenizer(STORIES, 400), sentencepiece_tokenizer(STORIES, 300)


@pytest.mark.parametrize("tokenizer", [BYTE_LEVEL, PIECES], ids=["byte level", "pieces"])
def test_a_story_is_read_back_from_its_tokens(tokenizer: PreTrainedTokenizerFast) -> None:
    for story in STORIES[:5]:
        ids = tokenizer(story)["input_ids"]
        assert tokenizer.decode(ids, skip_special_tokens=True) == story
        assert len(ids) < 0.6 * len(story)


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="▁"), max_size=20))
def test_characters_outside_the_stories_fall_back_to_bytes(text: str) -> None:
    assume(not any(token in text for token in PIECES.all_special_tokens))  # spelt out, it is that token
    assert BYTE_LEVEL.decode(BYTE_LEVEL(text)["input_ids"]) == text
    ids = PIECES(f"x{text}")["input_ids"]
    assert ids[0] == PIECES.bos_token_id and PIECES.decode(ids, skip_special_tokens=True) == f"x{text}"


def test_the_rate_rises_over_twenty_steps_and_falls_as_a_half_cosine() -> None:
    rates = [_one_cycle(step, 100) for step in range(101)]
    assert rates[0] == pytest.approx(1 / 20) and rates[100] == pytest.approx(0, abs=1e-12)
    for step in range(20, 101):
        assert rates[step] == pytest.approx(0.5 * (1 + math.cos(math.pi * step / 100)))
    assert max(rates) == pytest.approx(rates[19])


def test_padding_is_no_part_of_the_loss() -> None:
    torch.manual_seed(0)
    size = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=20, **size)).double().eval()
    rows = [[3, 4, 5, 6], [7, 8]]
    total, count = 0.0, 0
    for row in rows:
        log_p = model(input_ids=torch.tensor([row])).logits[0].detach().log_softmax(-1)
        total -= sum(float(log_p[place, token]) for place, token in enumerate(row[1:]))
        count += len(row) - 1
    assert float(_loss(model, rows).detach()) == pytest.approx(total / count)
