"""Which arrays of a cache came together, and where they lie."""

from pathlib import Path

import pytest

from schemas.cache.manifest import CacheManifest
from schemas.cache.sections import Section, array_folders, list_sections, require_paired
from schemas.cache.shard import ShardRecord
from schemas.errors import CacheError
from tests.shards import ARRAYS, manifest

HIDDEN, MASS = (array.path for array in ARRAYS)


def grown(parts: list[dict[str, object]], units: int = 3, samples: int = 9) -> CacheManifest:
    """A cache of one hidden layer and one mass that was once what `parts` say."""
    dump = manifest(units).model_dump() | {"parts": parts, "version": 3 if any("arrays" in p for p in parts) else 2}
    return CacheManifest.model_validate(dump | {"corpus": {"samples": samples, "empty": 0, "sha256": "0"}})


def test_a_cache_that_never_gained_an_array_is_one_section() -> None:
    (section,) = list_sections(Path("c"), manifest(2))
    assert section == Section(Path("c"), 0, manifest(2)) and section.holds_texts
    assert section.folder == Path("c") and section.shard(1) == Path("c/shards/00001")
    (longer,) = list_sections(Path("c"), grown([{"fingerprint": "a", "samples": 4, "units": 2}]))
    assert [longer.manifest.fingerprint_of(unit) for unit in range(3)] == ["a", "a", manifest(1).fingerprint]


def test_arrays_that_were_added_lie_apart_and_their_shards_are_of_the_cache_that_gained_them() -> None:
    """First masses alone, then more samples, then hidden states, then more samples."""
    steps = [("a", 2, 1, [MASS]), ("b", 4, 2, [MASS]), ("c", 4, 2, None)]
    parts = [{"fingerprint": f, "samples": s, "units": u} | ({"arrays": a} if a else {}) for f, s, u, a in steps]
    whole = grown(parts)
    first, second = list_sections(Path("c"), whole)
    assert [array.path for array in first.manifest.arrays] == [MASS]
    assert [array.path for array in second.manifest.arrays] == [HIDDEN] and not second.holds_texts
    assert second.folder == Path("c/added/1") and second.shard(0) == Path("c/added/1/shards/00000")
    now = whole.fingerprint
    assert [first.manifest.fingerprint_of(unit) for unit in range(3)] == ["a", "b", now]
    assert [second.manifest.fingerprint_of(unit) for unit in range(3)] == ["c", "c", now]
    assert array_folders(Path("c"), whole) == {MASS: Path("c"), HIDDEN: Path("c/added/1")}
    # A section is a cache of its own to whoever is given its folder and manifest.
    assert array_folders(second.folder, second.manifest) == {HIDDEN: second.folder}


@pytest.mark.parametrize(
    "part",
    [
        {"fingerprint": "a", "samples": 9, "units": 3},  # nothing more
        {"fingerprint": "a", "samples": 9, "units": 3, "arrays": [HIDDEN, MASS]},
        {"fingerprint": "a", "samples": 9, "units": 2, "arrays": [MASS]},  # units without samples
        {"fingerprint": "a", "samples": 9, "units": 3, "arrays": ["hidden/1"]},  # which it does not hold now
        {"fingerprint": "a", "samples": 9, "units": 3, "arrays": []},
    ],
)
def test_what_does_not_grow_is_no_part(part: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"grow from one to the next|at least 1 item"):
        grown([part])


def test_only_a_cache_with_added_arrays_is_of_version_3() -> None:
    part = {"fingerprint": "a", "samples": 9, "units": 3, "arrays": [MASS]}
    assert grown([part]).version == 3
    for parts, version in (([part], 2), ([], 3)):
        dump = manifest(3).model_dump() | {"parts": parts, "version": version}
        with pytest.raises(ValueError, match="version 3 is that of caches to which arrays were added"):
            CacheManifest.model_validate(dump | {"corpus": {"samples": 9, "empty": 0, "sha256": "0"}})


def test_rows_are_paired_by_what_the_texts_hash_to_and_by_their_counts() -> None:
    section = Section(Path("c"), 1, manifest(1))
    counts = {"samples": 2, "tokens": 8, "kept": 8, "truncated": 0, "overlong": 1}
    first = ShardRecord.model_validate({"fingerprint": "a", "unit": 0, "files": {}} | counts)
    added = first.model_copy(update={"texts": "s"})
    require_paired(section, 0, added, "s", first)
    others: list[dict[str, object]] = [{name: counts[name] + 1} for name in counts]
    others += [{"texts": "t"}, {"texts": None}]
    for other in others:
        with pytest.raises(
            CacheError, match=r"c/added/1/shards/00000/shard\.json is of other samples than c/shards/00"
        ):
            require_paired(section, 0, added.model_copy(update=other), "s", first)
