"""Several caches read as one are the cache that holds them all; what cannot be mixed is refused, and named."""

import json
import logging
from pathlib import Path

import numpy as np
import pytest

from schemas.cache.reader import Cache
from schemas.cache.union import CacheUnion, contract, open_readable
from schemas.errors import CacheError
from tests.caches import build_cache, extraction
from tests.joined import ALONE, split_cache
from tests.tiny import tiny_llama, tiny_tokenizer


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("union")
    split_cache(folder)
    return folder


def other(made: Path, output: Path, records: list[dict[str, str]], **sections: object) -> Path:
    """A cache of that teacher over `records`."""
    corpus = output.with_suffix(".jsonl")
    corpus.write_text("".join(json.dumps(record) + "\n" for record in records))
    return build_cache(extraction(output, made / "teacher", corpus, batching=ALONE, **sections))


def record(made: Path, number: int) -> dict[str, str]:
    found: dict[str, str] = json.loads((made / "corpus.jsonl").read_text().splitlines()[number])
    return found


def test_the_union_is_the_cache_that_holds_both(made: Path) -> None:
    whole, union = Cache(made / "whole"), open_readable([made / "first", made / "second"])
    assert len(union) == len(whole) and np.array_equal(union.tokens, whole.tokens)
    assert contract(union.manifest) == contract(whole.manifest)
    arrays = whole.manifest.arrays
    for position in range(len(whole)):
        sample = union.sample(position)
        assert sample.equals(whole.sample(position)) and union.position(sample.id) == position
        for found, wanted in zip(union.states(position, arrays), whole.states(position, arrays), strict=True):
            assert np.array_equal(found, wanted)
    assert union.array("hidden", 2) == whole.array("hidden", 2) and union.arrays_of("mass") == whole.arrays_of("mass")
    assert union.tables == (made / "first",) and union.path == made / "first"


def test_its_order_and_its_identity_are_those_of_the_list(made: Path) -> None:
    first, second = Cache(made / "first"), Cache(made / "second")
    assert CacheUnion([second, first]).fingerprint == f"{second.fingerprint}+{first.fingerprint}"
    turned = CacheUnion([second, first])
    assert turned.sample(0).equals(second.sample(0)) and turned.sample(len(second)).equals(first.sample(0))
    assert str(turned) == f"{made / 'second'}, {made / 'first'}"
    assert isinstance(open_readable([made / "first"]), Cache)


def test_a_sample_of_several_caches_is_taken_once(made: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    first = Cache(made / "first")
    count = len(first)
    more = other(made, tmp_path / "more", [record(made, 1), {"id": "new", "prompt": "", "text": "A new text."}])
    union = CacheUnion([first, Cache(more)])
    assert caplog.record_tuples == [
        ("schemas.cache.union", logging.WARNING, f"{first}, {more}: 1 samples stand in several of them; each is taken "
         "once")
    ]  # fmt: skip
    assert len(union) == count + 1 and union.sample(count).id == "new" and union.count() == [count, 1]
    assert union.position("s1") == 1 and union.position("new") == count
    reversed_ = CacheUnion([Cache(more), first])
    assert [reversed_.sample(position).id for position in range(3)] == ["s1", "new", "s0"]
    assert reversed_.position("s1") == 0 and reversed_.position("s0") == 2
    with pytest.raises(CacheError, match="hold no sample 'nowhere'"):
        union.position("nowhere")


def test_one_id_of_two_samples_is_refused(made: Path, tmp_path: Path) -> None:
    more = other(made, tmp_path / "more", [record(made, 0) | {"text": "Something else."}])
    with pytest.raises(CacheError, match=r"first and .*more hold different samples by the id 's0'; extract one of"):
        open_readable([made / "first", more])


def test_a_cache_that_is_named_twice_is_refused(made: Path) -> None:
    with pytest.raises(CacheError, match=r"first and .*first are the same cache; name it once"):
        open_readable([made / "first", made / "second", made / "first"])


def test_other_layers_are_refused_and_named(made: Path, tmp_path: Path) -> None:
    fewer = other(made, tmp_path / "fewer", [record(made, 0)], states={"hidden": [3], "mass": [1, 2, 3]})
    with pytest.raises(CacheError) as refused:
        open_readable([made / "second", fewer])
    assert f"{fewer} cannot be read together with {made / 'second'}" in str(refused.value)
    assert "states: hidden/0, hidden/1, hidden/2 are wanted and not found" in str(refused.value)


def test_another_teacher_is_refused_and_named(made: Path, tmp_path: Path) -> None:
    tiny_llama(tmp_path / "teacher", tiny_tokenizer(tmp_path / "teacher", "bpe"), seed=1)
    stranger = build_cache(extraction(tmp_path / "cache", tmp_path / "teacher", made / "second.jsonl"))
    with pytest.raises(CacheError, match=r"they differ in\n  teacher.weights: found "):
        open_readable([made / "first", stranger])
