"""What `states.encoding` may say, and what follows from it."""

from typing import Any

import pytest
from pydantic import ValidationError

from schemas.cache.encoding import PRESETS, EncodingConfig, EncodingRecord, resolve_encoding

SMALL = EncodingRecord(codec="rvq", kl=0.02, geometry=0.08, worst_kl=1.0)


def test_left_out_states_in_bfloat16_are_small_and_others_exact() -> None:
    assert resolve_encoding(None, "bfloat16") == resolve_encoding("small", "bfloat16") == SMALL
    assert resolve_encoding(None, "float32") is resolve_encoding(None, "float16") is None
    assert resolve_encoding("exact", "bfloat16") is None


def test_presets_lose_more_from_one_to_the_next() -> None:
    kept = [config for config in PRESETS.values() if config is not None]
    assert [config.kl for config in kept] == sorted(config.kl for config in kept)
    assert [config.geometry for config in kept] == sorted(config.geometry for config in kept)


def test_tolerances_and_bits_are_kept_as_they_are_given() -> None:
    found = resolve_encoding(EncodingConfig(kl=0.1, geometry=0.5, worst_kl=2), "bfloat16")
    assert found == EncodingRecord(codec="rvq", kl=0.1, geometry=0.5, worst_kl=2.0)
    assert found.is_calibrated
    found = resolve_encoding(EncodingConfig(bits=1.5), "bfloat16")
    assert found == EncodingRecord(codec="rvq", bits=1.5)
    found = resolve_encoding(EncodingConfig(codec="fp8"), "bfloat16")
    assert found == EncodingRecord(codec="fp8") and not found.is_calibrated


@pytest.mark.parametrize(
    "given",
    [
        {"codec": "int8"},
        {"codec": "fp8"},
        {"bits": 1.5},
        {"bits": 2.0, "worst_kl": 3.0},
        {"kl": 0.1},
        {"worst_kl": 2.0},
    ],
    ids=str,
)
def test_what_is_written_of_it_can_be_read_again(given: dict[str, Any]) -> None:
    config = EncodingConfig(**given)
    for written in (config.model_dump(), config.model_dump(mode="json")):
        again = EncodingConfig.model_validate(written)
        assert again == config and again.record == config.record


def test_an_encoding_of_other_than_bfloat16_is_refused() -> None:
    with pytest.raises(ValueError, match="dtype float32 is of exact states alone; set encoding to exact"):
        resolve_encoding("tiny", "float32")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"codec": "fp8", "kl": 0.1}, "fp8 has no kl"),
        ({"codec": "int8", "bits": 3, "geometry": 0.1}, "int8 has no bits or geometry"),
        ({"bits": 2, "kl": 0.1}, "not both"),
        ({"kl": 0.1, "worst_kl": 0.1}, r"worst_kl \(0.1\) is of single states"),
        ({"kl": 0}, "greater than or equal to"),
        ({"bits": 16}, "less than or equal to 12"),
    ],
)
def test_what_contradicts_itself_is_refused(config: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        EncodingConfig.model_validate(config)
