"""The truth beside the template of a real model, where `STILLROOM_MODELS` names the folder of those models."""

import os
from functools import cache
from pathlib import Path

import jinja2
import pytest
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from tests.schemas.conversations.cases import CASES
from tests.schemas.conversations.families import FAMILIES
from tests.schemas.conversations.record import Case
from tests.schemas.conversations.truth import Refused, uncut

SMOLLM2 = Path(os.environ.get("STILLROOM_MODELS", "")) / "smollm2-135m-instruct"


@cache
def tokenizer() -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(SMOLLM2)


@pytest.mark.skipif(not (SMOLLM2 / "chat_template.jinja").is_file(), reason="needs SmolLM2 in STILLROOM_MODELS")
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.kind}: {case.name}")
def test_smollm2(case: Case) -> None:
    family = next(family for family in FAMILIES if family.name == "smollm2")
    expected = uncut(family, case.record)
    try:
        assert tokenizer().apply_chat_template(case.record["messages"], tokenize=False) == expected
    except jinja2.TemplateError:
        assert expected == Refused("null")
