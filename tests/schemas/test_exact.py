"""Integers, booleans and numbers of configs and records: nothing else passes for them."""

from pathlib import Path
from typing import Literal

import pytest
from pydantic import ValidationError

from schemas.configs.training import TrainingConfig
from schemas.configs.yaml import load_config
from schemas.errors import ConfigError, RunError
from schemas.storage.file_record import FileRecord
from schemas.storage.record import parse_record
from schemas.strict import Strict


class Each(Strict):
    """A field of every kind, plain and within others."""

    format: Literal["each"] = "each"
    version: Literal[1] = 1
    count: int = 1
    share: float = 0.5
    flag: bool = False
    either: int | Literal["last"] = 1
    counts: list[int] = []
    shares: tuple[float, float] = (0.5, 0.5)
    named: dict[str, int | None] = {}
    inner: FileRecord | None = None


WRONG = {
    "count": (True, False, 1.0, 1.5, "1", None),
    "share": (True, False, "half"),
    "flag": (1, 0, "true", "yes", 1.0),
    "either": (True, 2.0, "first"),
    "counts": ([1, True], [1.0], ["1"]),
    "shares": ([True, 0.5], [0.5, False]),
    "named": ({"a": True}, {"a": 1.0}),
    "inner": ({"bytes": True, "sha256": ""}, {"bytes": 1.0, "sha256": ""}),
}
RIGHT = {
    "count": (0, 3, -1),
    "share": (1, 0.25, "1e-3"),
    "flag": (True, False),
    "either": (2, "last"),
    "counts": ([], [1, 2]),
    "shares": ([0, 1.5], (0.1, "2e-1")),
    "named": ({"a": None, "b": 2},),
    "inner": (None, {"bytes": 1, "sha256": ""}),
}


@pytest.mark.parametrize(("field", "value"), [(field, value) for field, values in WRONG.items() for value in values])
def test_nothing_passes_for_what_it_is_not(field: str, value: object) -> None:
    with pytest.raises(ValidationError):
        Each.model_validate({field: value})


@pytest.mark.parametrize(("field", "value"), [(field, value) for field, values in RIGHT.items() for value in values])
def test_what_is_exact_passes_and_survives_json(field: str, value: object) -> None:
    found = Each.model_validate({field: value})
    assert Each.model_validate_json(found.model_dump_json()) == found


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("steps=true", "steps: Input should be a valid integer (given: True)"),
        ("seed=1.0", "seed: Input should be a valid integer (given: 1.0)"),
        ("batch_size='8'", "batch_size: Input should be a valid integer (given: '8')"),
        ("optimizer.lr=true", "optimizer.lr: Input should be a valid number (given: True)"),
        ("student.append_eos=1", "student.append_eos: Input should be a valid boolean (given: 1)"),
    ],
)
def test_a_config_says_what_is_wanted(tmp_path: Path, override: str, said: str) -> None:
    path = tmp_path / "train.yaml"
    path.write_text("cache: c\noutput: o\nsteps: 3\nstudent: {model: m}\n", encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load_config(path, TrainingConfig, [override])
    assert said in str(caught.value)
    assert load_config(path, TrainingConfig, ["optimizer.lr=1e-3"]).optimizer.lr == 0.001  # which YAML takes for text


def test_a_record_is_as_exact_as_a_config() -> None:
    place = Path("each.json")
    with pytest.raises(RunError, match=r"each\.json is damaged: count: Input should be a valid integer"):
        parse_record(b'{"format": "each", "version": 1, "count": true}', Each, place, RunError)
    for version in (b"true", b"1.0"):
        with pytest.raises(RunError, match="this stillroom reads 'each' version 1"):
            parse_record(b'{"format": "each", "version": ' + version + b"}", Each, place, RunError)
