"""What is foreseen of a cache that was begun: by the shards that are there, against what the whole one holds."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.corpus.plan import predict_bytes
from pipeline.output import forecast as forecasts
from pipeline.output.missing import Missing, request_at_output
from schemas.cache.reader import Cache
from tests.caches import build_cache, extend_here, extraction, smallest_cache, write_corpus
from tests.tiny import TEXTS

STATES: dict[str, Any] = {"hidden": [1], "mass": [1], "dtype": "float32"}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Several shards, and some of texts that take more tokens per byte than the first ones."""
    folder = smallest_cache(tmp_path_factory.mktemp("forecast"), 1, 60).parent
    shutil.rmtree(folder / "cache")
    build_cache(config(folder))
    return folder


def config(folder: Path, **states: Any) -> Any:
    corpus = write_corpus(folder / "corpus.jsonl", TEXTS[:9])
    sections = {"states": STATES | states, "batching": {"unit_tokens": 40}}
    return extraction(folder / "cache", folder / "teacher", corpus, **sections)


def without(made: Path, folder: Path, *shards: int) -> Missing:
    """What is missing of a copy that lacks some shards."""
    shutil.copytree(made, folder, dirs_exist_ok=True)
    for shard in shards:
        shutil.rmtree(folder / f"cache/shards/{shard:05d}")
    (folder / "cache/index.parquet").unlink()
    asked = config(folder)
    found = request_at_output(asked, asked.output)[1]
    assert isinstance(found, Missing)
    return found


def bytes_of(shard: Path) -> int:
    return sum(path.stat().st_size for path in shard.rglob("*") if path.is_file() and path.name != "shard.json")


def test_the_rest_is_foreseen_in_the_proportion_of_what_is_there(made: Path, tmp_path: Path) -> None:
    found = without(made, tmp_path, 1, 3)
    forecast, plan, cache = found.forecast, found.request.plan, Cache(made / "cache")
    held = {number: int(cache.tokens[cache.shards == number].sum()) for number in range(len(plan.units))}
    there = [unit for unit in plan.units if unit.number not in (1, 3)]
    rate = sum(held[unit.number] for unit in there) / sum(unit.tokens for unit in there)
    expected = [round(plan.units[number].tokens * rate) for number in (1, 3)]
    assert rate != 1 and forecast.tokens(found.units) == sum(expected)
    assert forecast.tokens(plan.units) == sum(expected) + sum(held[unit.number] for unit in there)

    arrays = found.request.manifest.arrays
    true = [replace(unit, tokens=held[unit.number]) for unit in there]
    missing = [replace(plan.units[n], tokens=tokens) for n, tokens in zip((1, 3), expected, strict=True)]
    size = sum(bytes_of(made / f"cache/shards/{unit.number:05d}") for unit in there)
    share = size / predict_bytes(plan, arrays, true)
    assert forecast.bytes_there == size and forecast.shards == len(there)
    assert found.predict_bytes() == round(predict_bytes(plan, arrays, missing) * share)
    assert found.predict_bytes(plan.units[:2]) == round(predict_bytes(plan, arrays, missing[:1]) * share)
    assert forecast.share == pytest.approx(size / predict_bytes(plan, arrays, there), rel=1e-12)
    truth = sum(bytes_of(made / f"cache/shards/{number:05d}") for number in (1, 3))
    assert abs(found.predict_bytes() - truth) < 0.05 * truth < abs(predict_bytes(plan, arrays, found.units) - truth)


def test_without_a_shard_it_is_what_texts_and_presets_let_expect(made: Path, tmp_path: Path) -> None:
    everything = range(len(list((made / "cache/shards").iterdir())))
    found = without(made, tmp_path, *everything)
    plan, arrays = found.request.plan, found.request.manifest.arrays
    assert found.forecast.shards == found.forecast.bytes_there == 0
    assert found.forecast.tokens(plan.units) == plan.tokens
    assert found.predict_bytes() == predict_bytes(plan, arrays)


def test_arrays_take_per_row_what_they_take_in_some_shards(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forecasts, "RECORDS", 2)
    found = without(made, tmp_path, 1)
    rows, sizes = found.forecast.arrays()
    tokens = found.forecast.tokens(found.request.plan.units)
    assert rows == {"hidden/1": tokens, "mass/1": tokens}
    assert sizes == {"hidden/1": tokens * 8 * 4, "mass/1": tokens * 4}


def test_of_arrays_that_are_added_the_tokens_are_known(made: Path, tmp_path: Path) -> None:
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    more = config(tmp_path, hidden=[0, 1])
    request, found = request_at_output(more, more.output)
    assert isinstance(found, Missing)
    tokens = int(Cache(made / "cache").tokens.sum())
    assert found.forecast.tokens(found.units) == tokens != request.plan.tokens
    (hidden,) = found.arrays
    true = [replace(unit, tokens=found.forecast.tokens([unit])) for unit in request.plan.units]
    assert found.predict_bytes() == predict_bytes(request.plan, [hidden], true, texts=False)
    extend_here(more)
    gone = tmp_path / "cache/added/1/shards/00001"
    truth = bytes_of(gone)
    shutil.rmtree(gone)
    begun = request_at_output(more, more.output)[1]
    assert isinstance(begun, Missing)
    assert begun.predict_bytes() == pytest.approx(truth, rel=0.1)  # of so few tokens, most is what any shard takes
