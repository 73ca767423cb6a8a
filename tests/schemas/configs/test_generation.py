"""What `stillroom generate` may be asked for."""

from typing import Any

import pytest
from pydantic import ValidationError

from schemas.configs.generation import GenerationConfig

BASE: dict[str, Any] = {"cache": "c", "output": "o.jsonl", "model": "m"}


def test_defaults_draw_from_the_nucleus() -> None:
    config = GenerationConfig.model_validate(BASE)
    assert (config.temperature, config.top_p, config.seed) == (0.8, 0.95, 0)
    assert (config.max_new_tokens, config.batch_size, config.prompt_words, config.limit) == (512, 32, None, None)


@pytest.mark.parametrize("output", ["o", "o.json", "o.jsonl.gz", "o.JSONL"])
def test_the_file_is_named_as_what_it_is(output: str) -> None:
    with pytest.raises(ValidationError, match=rf"output {output} must end in \.jsonl: that is how `stillroom extract`"):
        GenerationConfig.model_validate(BASE | {"output": output})


@pytest.mark.parametrize("changes", [{"top_p": 0}, {"top_p": 1.01}, {"temperature": -0.1}, {"max_new_tokens": 0}])
def test_what_draws_nothing_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        GenerationConfig.model_validate(BASE | changes)
