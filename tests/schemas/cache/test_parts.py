"""What a cache was before it was extended, as cache.json and the identity say it."""

import pytest
from pydantic import ValidationError

from schemas.cache.parts import PartRecord

SAID = {"fingerprint": "a", "samples": 4, "units": 2}


def test_arrays_stand_there_only_where_there_were_fewer() -> None:
    """So the fingerprint of a cache that gained samples alone is what it was before arrays could be added."""
    part = PartRecord.model_validate(SAID)
    assert part.model_dump(mode="json") == SAID and PartRecord.model_validate_json(part.model_dump_json()) == part
    fewer = PartRecord.model_validate(SAID | {"arrays": ["hidden/1"]})
    assert fewer.model_dump(mode="json") == SAID | {"arrays": ["hidden/1"]}


@pytest.mark.parametrize("wrong", [{"arrays": []}, {"samples": 0}, {"units": 0}, {"layers": [1]}])
def test_no_part_is_empty_or_says_more(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        PartRecord.model_validate(SAID | wrong)
