"""Arrays are added to the samples that a cache holds, and to no others."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline.annotation.tokens import Counts
from pipeline.replay.samples import as_annotated
from pipeline.work.annotate import AnnotatedUnit
from pipeline.work.pairing import require_same_samples
from schemas.cache.manifest import read_manifest
from schemas.cache.reader import Cache
from schemas.cache.sections import list_sections
from schemas.errors import CacheError
from tests.caches import smallest_cache
from tests.files import damage


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return smallest_cache(tmp_path_factory.mktemp("pairing"), 4, 1000)


def unit(cache: Path) -> AnnotatedUnit:
    reader = Cache(cache)
    samples = [as_annotated(reader.sample(position)) for position in range(len(reader))]
    return AnnotatedUnit(0, samples, Counts(truncated=0, overlong=0))


def test_the_same_samples_are_told_by_what_their_file_hashes_to(made: Path) -> None:
    section = list_sections(made, read_manifest(made))[0]
    record = json.loads((made / "shards/00000/shard.json").read_text())
    assert require_same_samples(section, unit(made)) == record["files"]["samples.arrow"]["sha256"]


def test_other_samples_tokens_or_rows_are_refused(made: Path) -> None:
    section, whole = list_sections(made, read_manifest(made))[0], unit(made)
    first, *rest = whole.samples
    others = [
        replace(first, text=first.text + "."),
        replace(first, id="other"),
        replace(first, token_ids=first.token_ids[::-1].copy()),
        replace(first, token_rows=np.array([[0, 1]], np.int32)),
    ]
    units = [replace(whole, samples=[other, *rest]) for other in others]
    units += [
        replace(whole, samples=rest),
        replace(whole, samples=[*rest, first]),
        replace(whole, counts=Counts(truncated=0, overlong=1)),
    ]
    for changed in units:
        with pytest.raises(CacheError, match=r"samples\.arrow holds other samples than the corpus gives for unit 0"):
            require_same_samples(section, changed)


def test_damaged_or_missing_texts_are_named(made: Path, tmp_path: Path) -> None:
    cache = Path(shutil.copytree(made, tmp_path / "cache"))
    section, whole = list_sections(cache, read_manifest(cache))[0], unit(cache)
    damage(cache / "shards/00000/samples.arrow")
    with pytest.raises(CacheError, match=r"samples\.arrow does not have its checksum; run `stillroom repair "):
        require_same_samples(section, whole)
    shutil.rmtree(cache / "shards/00000")
    with pytest.raises(CacheError, match="there is no complete shard at"):
        require_same_samples(section, whole)
