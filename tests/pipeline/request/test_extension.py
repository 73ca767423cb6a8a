"""A cache that is extended: its shards stay to the byte, and what is new is what a fresh extraction gives."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jobs.verify import verify_cache
from pipeline.corpus.sample import Sample
from pipeline.request.request import make_request
from pipeline.work.annotate import AnnotatedUnit, annotate_unit
from pipeline.work.job import Job
from schemas.cache.manifest import read_manifest
from schemas.cache.reader import Cache
from schemas.configs.extraction import ExtractionConfig
from schemas.errors import CacheError, CorpusError
from tests.caches import build_cache, extend_here, extraction, write_corpus
from tests.files import hashes
from tests.tiny import TEXTS, tiny_llama, tiny_tokenizer

FIRST, THEN, LAST = 14, 26, 35
MORE = {"batching": {"unit_tokens": 300, "batch_tokens": 128}}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("extension")
    tiny_llama(folder / "teacher", tiny_tokenizer(folder / "teacher", "bpe"))
    return folder


def config(folder: Path, name: str, samples: int, **sections: Any) -> ExtractionConfig:
    """Over the first of the texts, in a corpus that is written for it."""
    corpus = write_corpus(folder / f"{name}.jsonl", TEXTS[:samples])
    return extraction(folder / name, folder / "teacher", corpus, **MORE | sections)


def extended(folder: Path, name: str, **sections: Any) -> Path:
    """A cache of the first texts that was extended twice."""
    cache = build_cache(config(folder, name, FIRST, **sections))
    for samples in (THEN, LAST):
        extend_here(config(folder, name, samples, **sections))
    return cache


def test_shards_stay_and_what_is_new_is_a_fresh_extraction_from_the_first_whole_unit_on(folder: Path) -> None:
    cache = build_cache(config(folder, "grown", FIRST))
    before, opened = hashes(cache), Cache(cache)
    first = opened.manifest
    reports = extend_here(config(folder, "grown", THEN))
    middle = read_manifest(cache)
    assert [report.record.unit for report in reports] == list(range(first.units, middle.units))
    extend_here(config(folder, "grown", LAST))
    now, manifest = hashes(cache), read_manifest(cache)
    assert {name for name in before if now[name] != before[name]} == {"cache.json", "checksums.json", "index.parquet"}
    assert [part.model_dump() for part in manifest.parts] == [
        {"fingerprint": first.fingerprint, "samples": FIRST, "units": first.units},
        {"fingerprint": middle.fingerprint, "samples": THEN, "units": middle.units},
    ]
    verify_cache(cache)
    # Who opened it before goes on reading.
    assert [opened.sample(position).id for position in range(FIRST)] == [f"s{n}" for n in range(FIRST)]

    fresh = build_cache(config(folder, "fresh", LAST))
    fresh_files = hashes(fresh)
    same = {name for name in now if fresh_files.get(name) == now[name]}
    whole = {f"shards/{unit:05d}/" for unit in range(first.units - 1)}  # the last one would have taken more
    assert {name for name in now if name.startswith("teacher/")} <= same
    for prefix in whole:
        assert {name for name in now if name.startswith(prefix)} - same == {f"{prefix}shard.json"}
    left, right = Cache(cache), Cache(fresh)
    assert len(left) == len(right) == LAST
    for position in range(LAST):
        assert left.sample(position).equals(right.sample(position))
        pairs = zip(*(c.states(position, c.manifest.arrays) for c in (left, right)), strict=True)
        assert all(np.allclose(a, b, rtol=1e-4, atol=1e-5) for a, b in pairs)


def test_codecs_are_kept_and_lost_ones_are_made_of_the_first_samples_again(folder: Path) -> None:
    states = {"hidden": [1, 3], "mass": [], "dtype": "bfloat16", "encoding": "small"}
    cache = extended(folder, "encoded", states=states)
    verify_cache(cache)
    wanted = hashes(cache)
    shutil.rmtree(cache / "codecs")
    shutil.rmtree(cache / "shards/00000")
    extend_here(config(folder, "encoded", LAST, states=states))
    assert hashes(cache) == wanted


def test_an_extension_that_was_cut_off_leaves_the_cache_as_it_was_and_goes_on(folder: Path) -> None:
    cache = build_cache(config(folder, "cut-off", FIRST))
    before = hashes(cache)
    longer = config(folder, "cut-off", LAST)
    made = list[int]()

    def annotate(job: Job, number: int, samples: list[Sample]) -> AnnotatedUnit:
        made.append(number)
        if len(made) > 1:
            raise KeyboardInterrupt
        return annotate_unit(job, number, samples)

    with pytest.raises(KeyboardInterrupt):
        extend_here(longer, annotate)
    now = hashes(cache)
    assert {name: now[name] for name in before} == before and len(now) > len(before)
    assert len(Cache(cache)) == FIRST
    verify_cache(cache)
    units = [report.record.unit for report in extend_here(longer)]
    assert units == list(range(made[1], read_manifest(cache).units))
    again = build_cache(config(folder, "undisturbed", FIRST))
    extend_here(config(folder, "undisturbed", LAST))
    assert hashes(cache) == hashes(again)
    assert extend_here(longer) == []


def test_what_is_no_growth_is_refused(folder: Path) -> None:
    cache = build_cache(config(folder, "refused", FIRST))
    before = hashes(cache)
    with pytest.raises(CacheError, match=r"^the cache holds hidden/0, .* does not ask for it: nothing is removed"):
        extend_here(config(folder, "refused", LAST, states={"hidden": [3], "mass": [1, 2, 3], "dtype": "float32"}))
    with pytest.raises(CorpusError, match="the corpus has 10 samples, fewer than the 14 that the cache holds"):
        extend_here(config(folder, "refused", 10))
    other = config(folder, "refused", LAST)
    write_corpus(folder / "refused.jsonl", [TEXTS[-1], *TEXTS[: LAST - 1]])
    with pytest.raises(CorpusError, match="the corpus does not begin with the 14 samples of the cache"):
        extend_here(other)
    write_corpus(folder / "refused.jsonl", [*TEXTS[1:FIRST], TEXTS[0]])
    with pytest.raises(CorpusError, match="the corpus does not begin with the 14 samples of the cache"):
        extend_here(other)
    assert hashes(cache) == before


def test_units_are_cut_as_they_were_though_few_samples_measured_otherwise(folder: Path) -> None:
    """Of the first samples, mostly of another script, a token has other bytes."""
    short = config(folder, "measured", 5)
    write_corpus(folder / "measured.jsonl", TEXTS[-5:])
    alone = make_request(short)
    write_corpus(folder / "measured.jsonl", [*TEXTS[-5:], *TEXTS[:20]])
    after = make_request(short, alone.manifest)
    assert after.plan.units[: len(alone.plan.units)] == alone.plan.units
    assert make_request(short).plan.units[: len(alone.plan.units)] != alone.plan.units
