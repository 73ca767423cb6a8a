"""Samples of a cache are those that the pipeline wrote: drawn by the seed, with their tokens, in their batches."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.corpus.sample import AnnotatedSample, Sample
from pipeline.replay.samples import SampleReader, draw_positions
from pipeline.work.annotate import AnnotatedUnit, annotate_unit
from pipeline.work.job import Job
from schemas.cache.reader import Cache
from schemas.configs.extraction import ExtractionConfig
from tests.caches import build_cache
from tests.pipeline.replay.faults import config_of, make_material

STATES: dict[str, dict[str, Any]] = {
    "causal": {"hidden": [1], "mass": []},
    "encoder": {"hidden": [], "mass": [], "pooled": {"pooling": "cls"}},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_material(tmp_path_factory.mktemp("samples"))


def made(config: ExtractionConfig) -> tuple[Cache, dict[str, AnnotatedSample]]:
    """A cache, and the samples as they went through the teacher."""
    seen = dict[str, AnnotatedSample]()

    def annotate(job: Job, number: int, samples: list[Sample]) -> AnnotatedUnit:
        unit = annotate_unit(job, number, samples)
        seen.update({sample.id: sample for sample in unit.samples})
        return unit

    return Cache(build_cache(config, annotate)), seen


@pytest.mark.parametrize("kind", STATES)
def test_a_sample_has_the_tokens_that_the_teacher_read(folder: Path, kind: str) -> None:
    """Cut ones and whole ones; those of a cache of embeddings alone are made of its texts."""
    teacher = {"kind": kind, "max_tokens": 20 if kind == "causal" else 12, "append_eos": kind == "causal"}
    config = config_of(folder, f"of-{kind}", STATES[kind], teacher=teacher)
    cache, seen = made(config)
    reader = SampleReader(cache, config.teacher)
    found = reader.read(range(len(cache)))
    assert {sample.truncated for sample in found} == {True, False}
    for sample in found:
        wanted = seen[sample.id]
        assert sample.text == wanted.text
        for name in ("token_ids", "token_offsets", "token_rows"):
            assert np.array_equal(getattr(sample, name), getattr(wanted, name)), name
    batch = [found[position] for position in reader.batch_of(5)]
    lengths = [len(sample.token_ids) for sample in batch]
    assert found[5] in batch and lengths == sorted(lengths, reverse=True)
    assert len(lengths) * lengths[0] <= cache.manifest.identity["batching"]["batch_tokens"]


def test_the_seed_draws(folder: Path) -> None:
    cache = Cache(build_cache(config_of(folder, "drawn", STATES["causal"])))
    drawn = draw_positions(cache, 5, 0)
    assert drawn == draw_positions(cache, 5, 0) and len(set(drawn)) == 5 and drawn == sorted(drawn)
    assert drawn != draw_positions(cache, 5, 1)
    assert draw_positions(cache, 10**9, 3) == list(range(len(cache)))
