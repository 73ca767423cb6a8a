"""Names of runs: short, readable, and such that a comparison finds the seed."""

from typing import Any

import pytest

from jobs.sweep.naming import folder_name, name_value, short_fields
from schemas.errors import ConfigError


def test_a_field_loses_what_does_not_tell_it_from_the_others() -> None:
    fields = ["optimizer.lr", "objective.sra.weight", "objective.kd.weight", "student.max_tokens", "steps"]
    assert list(short_fields(fields).values()) == ["lr", "sra.weight", "kd.weight", "max_tokens", "steps"]
    both = ["objective.sra.projection.lr", "optimizer.lr"]
    assert short_fields(both) == {both[0]: "projection.lr", both[1]: "optimizer.lr"}


@pytest.mark.parametrize(
    ("value", "name"),
    [
        ("1e-3", "0.001"), (0.001, "0.001"), (2.0, "2"), (1 << 60, str(1 << 60)), (True, "true"), (None, "null"),
        ("/models/qwen/", "qwen"), ("cosine", "cosine"),
    ],
)  # fmt: skip
def test_a_value_is_named_as_one_would_write_it(value: Any, name: str) -> None:
    assert name_value("f", value) == name


def test_a_list_wants_a_name() -> None:
    with pytest.raises(ConfigError, match=r"^objective: \[\{'loss': 'ce'\}\] does not make a name; name the values"):
        name_value("objective", [{"loss": "ce"}])


def test_a_folder_has_no_character_that_a_shell_or_a_path_minds() -> None:
    assert folder_name(["lr=0.001", "sra.cos=2"], 1) == "lr=0.001,sra.cos=2-seed1"
    assert folder_name(["../a b/$c"], 0) == "_a_b_c-seed0"
    assert folder_name([], 7) == "base-seed7"
    with pytest.raises(ConfigError, match="is too long for a folder's name; name the values or the runs"):
        folder_name(["x" * 120], 0)
