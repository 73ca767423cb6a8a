"""The samples that several caches have in common, in the order of the first."""

from pathlib import Path

import numpy as np
import pytest

from schemas.cache.reader import Cache
from schemas.cache.selection import CacheSelection, common_samples
from schemas.errors import CacheError
from tests.caches import build_cache, extraction, write_corpus
from tests.tiny import TEXTS, tiny_llama, tiny_tokenizer


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`first` holds s0 to s4; `second` s6 to s1, cut at fewer tokens; in `other` s0 is another text."""
    folder = tmp_path_factory.mktemp("selection")
    tiny_llama(folder / "teacher", tiny_tokenizer(folder / "teacher", "bpe", 300), hidden=8, layers=1, heads=2)
    lines = write_corpus(folder / "all.jsonl").read_text().splitlines(keepends=True)
    changed = write_corpus(folder / "changed.jsonl", TEXTS[10:12]).read_text().splitlines(keepends=True)
    for name, some, tokens in (("first", lines[:5], 96), ("second", lines[6:0:-1], 8), ("other", changed, 96)):
        corpus = folder / f"{name}.jsonl"
        corpus.write_text("".join(some))
        states, teacher = {"hidden": [1], "mass": []}, {"max_tokens": tokens}
        build_cache(extraction(folder / name, folder / "teacher", corpus, states=states, teacher=teacher))
    return folder


def test_what_is_in_common_is_read_in_one_order(made: Path) -> None:
    whole = [Cache(made / name) for name in ("first", "second")]
    left, right = common_samples(whole)
    names = [left.sample(position).id for position in range(len(left))]
    assert names == [right.sample(position).id for position in range(len(right))] == ["s1", "s2", "s3", "s4"]
    assert left.sample(0).text.startswith(right.sample(0).text) and right.sample(0).truncated
    for selection, cache in zip((left, right), whole, strict=True):
        assert selection.fingerprint == cache.fingerprint and str(selection) == str(cache.path)
        assert selection.path == cache.path and selection.tables == cache.tables and selection.tables_of(1) == 0
        array = selection.array("hidden", 1)
        for position, name in enumerate(names):
            place = cache.position(name)
            assert selection.position(name) == position and selection.tokens[position] == cache.tokens[place]
            assert selection.sample(position).equals(cache.sample(place))
            np.testing.assert_array_equal(selection.states(position, [array])[0], cache.states(place, [array])[0])
    with pytest.raises(CacheError, match="the sample 's0' is not among those that all teachers hold"):
        left.position("s0")


def test_texts_that_are_not_the_same_are_refused(made: Path) -> None:
    first, other = Cache(made / "first"), Cache(made / "other")
    with pytest.raises(CacheError, match=f"{first} and {other} hold different texts by the id 's0': several teachers"):
        common_samples([first, other])
    with pytest.raises(CacheError, match="are the same cache; name it once, with the sum of its weights"):
        common_samples([first, other, Cache(made / "first")])
    second = Cache(made / "second")
    only = CacheSelection(second, np.array([0]))  # s6
    assert len(only) == 1
    with pytest.raises(CacheError, match="have no sample in common: several teachers teach from one corpus"):
        common_samples([_only(second), other])


def _only(cache: Cache) -> Cache:
    cache.__dict__["positions"] = {"s6": 0}
    return cache
