"""What an import asks for, and what it cannot be."""

from typing import Any

import pytest
from pydantic import ValidationError

from schemas.configs.importing import ImportConfig

SAID: dict[str, Any] = {"output": "/x", "layout": "distillkit", "files": ["a"], "teacher": {"model": "m"}}


def test_what_contradicts_itself_is_refused() -> None:
    assert ImportConfig.model_validate(SAID).unspelt == "error"
    for teacher, said in (
        ({"kind": "encoder"}, "of causal teachers"),
        ({"append_eos": True}, "tokens are those of the"),
    ):
        with pytest.raises(ValidationError, match=said):
            ImportConfig.model_validate(SAID | {"teacher": {"model": "m", **teacher}})
