"""What of a request is not in its cache yet, before, in the middle of and after it is extended."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from pipeline.corpus.plan import predict_bytes
from pipeline.output.missing import Missing, request_at_output
from schemas.configs.extraction import ExtractionConfig
from tests.caches import build_cache, extend_here, extraction, smallest_cache, write_corpus
from tests.tiny import TEXTS


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A teacher, and a cache of its final states alone."""
    folder = smallest_cache(tmp_path_factory.mktemp("missing"), 1, 60).parent
    shutil.rmtree(folder / "cache")
    build_cache(config(folder, ["last"], 6))
    return folder


def config(folder: Path, hidden: list[Any], samples: int, **states: Any) -> ExtractionConfig:
    corpus = write_corpus(folder / "corpus.jsonl", TEXTS[:samples])
    states = {"hidden": hidden, "mass": [], "dtype": "float32", **states}
    return extraction(folder / "cache", folder / "teacher", corpus, states=states, batching={"unit_tokens": 60})


def missing_of(config: ExtractionConfig) -> Missing:
    found = request_at_output(config, config.output)[1]
    assert isinstance(found, Missing)
    return found


def test_what_is_added_is_missing_and_nothing_else(made: Path) -> None:
    whole = missing_of(config(made, ["last"], 6))
    assert (whole.units, whole.sections, whole.predict_bytes(), whole.bytes_beside()) == ([], [], 0, 0)
    more = missing_of(config(made, [0, "last"], 6))
    plan = more.request.plan
    assert more.units == list(plan.units) and [array.path for array in more.arrays] == ["hidden/0"]
    assert more.predict_bytes() == more.forecast.bytes(more.sections[0], plan.units) and more.is_prepared
    assert more.predict_bytes() < predict_bytes(plan, more.arrays)
    longer = missing_of(config(made, ["last"], 9))
    assert longer.units == list(longer.request.plan.units[len(plan.units) :]) and len(longer.units) > 0
    assert longer.predict_bytes() == longer.forecast.bytes(longer.sections[0], longer.units)
    both = missing_of(config(made, [0, "last"], 9))
    assert both.units == list(both.request.plan.units)
    assert [len(both.units_of(section)) for section in both.sections] == [len(longer.units), len(both.units)]


def test_what_is_missing_is_a_request_of_its_own(made: Path) -> None:
    alone = missing_of(config(made, [0, "last"], 6)).as_request()
    assert [array.path for array in alone.manifest.arrays] == ["hidden/0"] and alone.manifest.parts == []
    longer = missing_of(config(made, ["last"], 9))
    read = list(longer.as_request().plan.read_units(longer.request.corpus))
    assert [unit for unit, _ in read] == longer.units
    assert [sample.id for _, samples in read for sample in samples] == ["s6", "s7", "s8"]


def test_a_new_cache_lacks_all_and_another_one_says_why(made: Path, tmp_path: Path) -> None:
    new = config(made, ["last"], 6).model_copy(update={"output": tmp_path / "new"})
    assert request_at_output(new, new.output)[1] is None
    request, refusal = request_at_output(config(made, [0], 6), made / "cache")
    assert str(refusal).startswith("the cache holds hidden/1, and its config does not ask for it")
    assert request.manifest.parts == [] and [array.path for array in request.manifest.arrays] == ["hidden/0"]


def test_an_extension_that_was_begun_lacks_the_rest(made: Path, tmp_path: Path) -> None:
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    more = config(tmp_path, [0, "last"], 6)
    extend_here(more)
    shutil.rmtree(tmp_path / "cache/added/1/shards/00001")
    found = missing_of(more)
    assert [unit.number for unit in found.units] == [1] and [section.number for section in found.sections] == [1]
