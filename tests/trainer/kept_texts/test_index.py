"""An index against a dictionary, over additions that are sorted in and ones that are not."""

import numpy as np
import pytest

from trainer.kept_texts import index
from trainer.kept_texts.index import Index


@pytest.mark.parametrize("few", [0, 5, 10_000])
def test_it_knows_what_a_dictionary_knows(few: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "FEW", few)
    random, found, wanted, place = np.random.default_rng(few), Index(), dict[int, int](), 0
    assert found.find(0) is None and len(found) == 0
    for count in (1, 0, 30, 200, 3):
        keys = random.integers(0, 400, count).astype(np.uint64) * np.uint64(2**55)  # many are known, half are large
        found.add(keys, place)
        for key in keys.tolist():
            wanted.setdefault(key, place)
            place += 1
        assert len(found) == len(wanted)
        for key in (*wanted, 1, 2**55 + 1, 2**64 - 1):
            assert found.find(key) == wanted.get(key)
