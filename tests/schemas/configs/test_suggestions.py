"""What is suggested for a field that there is not: of the section's own class, or a whole field elsewhere."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from schemas.configs.extraction import ExtractionConfig
from schemas.configs.problems import Origins
from schemas.configs.training import TrainingConfig
from schemas.strict import Strict
from tests.schemas.least import TRAINING


def described(model: type[Strict], data: dict[str, Any]) -> list[str]:
    with pytest.raises(ValidationError) as caught:
        model.model_validate(data)
    return [Origins(Path("a.yaml"), None, data, []).describe(problem, model) for problem in caught.value.errors()]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"objective": [{"loss": "mta", "layers": [1]}]},
            "objective.0.layers: unknown field; did you mean `word_layers`?",
        ),
        (
            {"objective": [{"loss": "sra", "layers": [1]}]},
            "objective.0.layers: unknown field; did you mean `cos_layers`?",
        ),
        ({"objective": [{"loss": "ce", "divergance": 1}]}, "objective.0.divergance: unknown field"),
        (
            {"objective": [{"loss": "kd", "divergance": 1}]},
            "objective.0.divergance: unknown field; did you mean `divergence`?",
        ),
        (
            {"objective": [{"loss": "sra", "projection": {"initial": 1}}]},
            "objective.0.projection.initial: unknown field; did you mean `init`?",
        ),
        ({"optimizer": {"sharpness": {"roh": 1}}}, "optimizer.sharpness.roh: unknown field; did you mean `rho`?"),
        ({"warmup": 0.1}, "warmup: unknown field; did you mean `optimizer.warmup`?"),
        ({"zzz": 0.1}, "zzz: unknown field"),
        ({"corpus": {}}, "corpus: unknown field"),  # of another command's config, and like `cos` of a loss
    ],
)
def test_a_suggestion_is_a_field_that_would_be_read(changes: dict[str, Any], said: str) -> None:
    assert described(TrainingConfig, TRAINING | changes) == [f"a.yaml: {said}"]


def test_of_two_layouts_the_given_one_is_asked() -> None:
    data = {"output": "c", "corpus": {"files": ["a"]}, "teacher": {"model": "m"}, "states": {"hiden": ["last"]}}
    assert "a.yaml: states.hiden: unknown field; did you mean `hidden`?" in described(ExtractionConfig, data)
