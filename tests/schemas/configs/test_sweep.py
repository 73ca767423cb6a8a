"""The settings of a sweep, and what cannot be meant."""

from typing import Any

import pytest
from pydantic import ValidationError

from schemas.configs.sweep import SweepConfig


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"grid": {"seed": [1]}}, "the seed of a run is given by `seeds`"),
        ({"runs": [{"set": {"output": "x"}}]}, "the output of a run is given by `output` of the sweep"),
        ({"grid": {"steps": [1]}, "runs": [{"set": {"steps": 2}}]}, "steps stands in `grid` and in `runs`"),
        ({"grid": {"steps": []}}, "at least 1 item"),
        ({"seeds": [1, 1]}, "a seed is given twice"),
        ({"runs": [{}]}, "give `set`, or the name of a run that is as the base is"),
        ({"workers": {"count": 2}}, "trains one run at a time; for 2 give processes or ray"),
        ({"workers": {"kind": "processes", "gpus": 1}}, "gpus goes with `kind: ray`"),
        ({"share": 0}, "greater than or equal to 1"),
    ],
)
def test_what_cannot_be_meant_is_refused(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        SweepConfig.model_validate({"base": {}, "output": "o"} | settings)
