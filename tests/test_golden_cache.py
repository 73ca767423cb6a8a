"""Caches of format 2 as they were released are still read: numbers written down when the format was."""

import json
from pathlib import Path
from typing import Any

import pytest

from jobs.verify import verify_cache
from schemas.cache.manifest import read_manifest
from tests.golden_cache import GOLDEN, STATES, make, read


def assert_alike(found: Any, wanted: Any, where: str = "") -> None:
    """Decoded on another machine, a number may differ in its last digits."""
    if isinstance(wanted, dict):
        assert found.keys() == wanted.keys(), where
        for key in wanted:
            assert_alike(found[key], wanted[key], f"{where} {key}")
    elif isinstance(wanted, list):
        assert len(found) == len(wanted), where
        for number, (mine, theirs) in enumerate(zip(found, wanted, strict=True)):
            assert_alike(mine, theirs, f"{where} {number}")
    else:
        assert found == (pytest.approx(wanted, rel=1e-4, abs=1e-5) if isinstance(wanted, float) else wanted), where


@pytest.mark.parametrize("name", STATES)
def test_format_2_as_it_was_released_is_still_read(name: str) -> None:
    verify_cache(GOLDEN / name)
    assert read_manifest(GOLDEN / name).version == 2
    assert_alike(read(GOLDEN / name), json.loads((GOLDEN / f"{name}.json").read_text(encoding="utf-8")))


def test_the_golden_caches_hold_what_format_2_can_hold() -> None:
    arrays = [array for name in STATES for array in read_manifest(GOLDEN / name).arrays]
    assert {array.state_kind.name for array in arrays} == {"hidden", "mass", "pooled", "top_k", "sampled"}
    assert {array.encoding for array in arrays} >= {"rvq", "int8", "raw", "zstd"}
    assert {read_manifest(GOLDEN / name).rows for name in STATES} == {"all", "targets"}


def test_one_that_is_made_anew_is_of_the_same_files(tmp_path: Path) -> None:
    """Its numbers may differ with the libraries and the machine, and so no bytes are compared."""
    made, golden = make("cache-2", tmp_path), GOLDEN / "cache-2"
    names = [sorted(path.relative_to(cache).as_posix() for path in cache.rglob("*")) for cache in (made, golden)]
    assert names[0] == names[1]
    assert read_manifest(made).identity.keys() == read_manifest(golden).identity.keys()
