"""A model that continues prompts: what it is fed, what ends a response, and whose draws they are."""

from pathlib import Path
from typing import Any

import pytest
import torch

from schemas.configs.generation import GenerationConfig
from schemas.errors import ModelError
from tests.tiny import tiny_llama, tiny_tokenizer
from trainer.generation.continuer import Continuer, Prompt
from trainer.generation.sampling import draw, uniform_numbers

TEXT = "The old miller has"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("continuer")
    for kind in ("bpe", "bytelevel"):
        tiny_llama(folder / kind, tiny_tokenizer(folder / kind, kind, 300), hidden=16, layers=1, heads=2)
    return folder


def continuer(made: Path, kind: str = "bpe", **changes: Any) -> Continuer:
    base = {"cache": "c", "output": "o.jsonl", "model": str(made / kind), "max_new_tokens": 6, "device": "cpu"}
    return Continuer(GenerationConfig.model_validate(base | changes))


def test_a_prompt_begins_as_a_text_does_and_does_not_end(made: Path) -> None:
    llama, gpt = continuer(made), continuer(made, "bytelevel")
    assert llama.encode("a", TEXT) == Prompt("a", TEXT, llama.tokenizer(TEXT)["input_ids"])
    assert llama.encode("a", TEXT).tokens[0] == llama.tokenizer.bos_token_id
    assert llama.encode("a", "").tokens == [llama.tokenizer.bos_token_id]
    assert gpt.encode("a", "").tokens == []
    assert llama.can_continue(llama.encode("a", "")) and not gpt.can_continue(gpt.encode("a", ""))


def test_what_is_drawn_is_the_inverse_transform_of_the_models_own_logits(made: Path) -> None:
    """One pass per token over the whole text, alone and without a cache, with this prompt's own numbers."""
    one = continuer(made, temperature=0.9, top_p=0.8, seed=4)
    prompts = [one.encode("a", TEXT), one.encode("b", "A small grey cat and")]
    for prompt, response in zip(prompts, one.write(prompts), strict=True):
        tokens, uniforms = list(prompt.tokens), uniform_numbers(4, prompt.id, 6)
        for uniform in uniforms:
            with torch.no_grad():
                logits_1V = one.model(input_ids=torch.tensor([tokens])).logits[:, -1, : len(one.tokenizer)]
            tokens.append(int(draw(logits_1V, torch.tensor([uniform]), 0.9, 0.8)))
            if tokens[-1] in one.ends:
                break
        assert response.tokens == len(tokens) - len(prompt.tokens)
        written = tokens[: len(tokens) - (tokens[-1] in one.ends)]
        whole = one.tokenizer.decode(written, skip_special_tokens=True)
        head = one.tokenizer.decode(prompt.tokens, skip_special_tokens=True)
        assert response.text == whole[len(head) :].rstrip("\ufffd")
        assert response.ended == (tokens[-1] in one.ends)


def test_a_response_ends_at_the_first_end(made: Path) -> None:
    one = continuer(made, temperature=0)
    one.ends = list(range(len(one.tokenizer)))  # whatever comes first
    (response,) = one.write([one.encode("a", TEXT)])
    assert (response.text, response.tokens, response.ended) == ("", 1, True)
    one.ends = []
    (response,) = one.write([one.encode("a", TEXT)])
    assert response.tokens == 6 and not response.ended


def test_a_prompt_leaves_room_for_its_response(made: Path) -> None:
    one = continuer(made, max_new_tokens=500)  # of 512 positions
    assert one.longest_prompt == 12
    assert one.can_continue(Prompt("a", "", [1] * 12)) and not one.can_continue(Prompt("a", "", [1] * 13))
    with pytest.raises(ModelError, match=r"^max_new_tokens is 512, but the model has only 512 positions$"):
        continuer(made, max_new_tokens=512)
