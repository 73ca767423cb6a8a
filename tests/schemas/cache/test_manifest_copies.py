"""cache.json: the bytes that it always had, and one message for what contradicts the cache's own identity."""

from pathlib import Path
from typing import Any

import pytest

from schemas.cache.arrays import ArrayRecord
from schemas.cache.manifest import CacheManifest, read_manifest
from schemas.cache.teacher import EmbeddingRecord
from schemas.errors import CacheError

GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "cache-1"
SHA256 = "51392945765abc514bfb56633de6a372ea4f7223c6c74333a68cadfeb915f592"


@pytest.fixture(scope="module")
def golden() -> CacheManifest:
    return read_manifest(GOLDEN)


def said(manifest: CacheManifest) -> str:
    with pytest.raises(CacheError) as refused:
        manifest.check_copies(Path("c"))
    start, end = "c/cache.json contradicts its own identity (", "); extract again"
    assert str(refused.value).startswith(start) and str(refused.value).endswith(end)
    return str(refused.value)[len(start) : -len(end)]


def test_the_file_has_the_bytes_that_it_had(golden: CacheManifest) -> None:
    assert golden.to_json() == (GOLDEN / "cache.json").read_text(encoding="utf-8")


def test_what_a_manifest_is_asked_for(golden: CacheManifest) -> None:
    assert golden.records == {}
    assert golden.array("hidden", 1) == golden.arrays[0] and golden.array("mass", 1) == golden.arrays[1]
    assert golden.array("hidden", 0) is None and golden.array("pooled", 1) is None


def test_a_sound_manifest_contradicts_nothing(golden: CacheManifest) -> None:
    golden.check_copies(GOLDEN)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"annotator": "x"}, 'annotator: found "x", wanted "english 1 (lexicon 9545c71faf16, Unicode 14.0.0)"'),
        ({"corpus.samples": 5}, "corpus.samples: found 5, wanted 4"),
        ({"corpus.sha256": "00"}, f'corpus.sha256: found "00", wanted "{SHA256[:27]}…{SHA256[-27:]}"'),
        ({"teacher.kind": "encoder"}, 'teacher.kind: found "encoder", wanted "causal"'),
        ({"teacher.max_tokens": 95}, "teacher.max_tokens: found 95, wanted 96"),
        (
            {"teacher.max_tokens": 95, "corpus.samples": 5},
            "corpus.samples: found 5, wanted 4; teacher.max_tokens: found 95, wanted 96",
        ),
        (
            {"teacher.embedding": EmbeddingRecord(dtype="bfloat16", rows=316, width=8)},
            'keep_embeddings: found true, wanted null; teacher.dtype: found "bfloat16 and float32", wanted "float32"',
        ),
    ],
)
def test_copies_that_contradict_the_identity_are_named(
    golden: CacheManifest, changes: dict[str, Any], told: str
) -> None:
    manifest = golden
    for place, value in changes.items():
        section, _, field = place.rpartition(".")
        if section:
            value, field = getattr(manifest, section).model_copy(update={field: value}), section
        manifest = manifest.model_copy(update={field: value})
    assert said(manifest) == told


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"width": 9}, "states.hidden/1.width: found 9, wanted 8"),
        ({"dtype": "float16"}, 'states.hidden/1.dtype: found "float16", wanted "bfloat16"'),
        ({"encoding": "zstd"}, 'states.hidden/1.encoding: found "zstd", wanted "raw"'),
    ],
)
def test_arrays_that_contradict_the_identity_are_named(
    golden: CacheManifest, change: dict[str, Any], told: str
) -> None:
    arrays = [golden.arrays[0].model_copy(update=change), *golden.arrays[1:]]
    assert said(golden.model_copy(update={"arrays": arrays})) == told


def test_layers_that_the_teacher_lacks_are_named(golden: CacheManifest) -> None:
    arrays = [*golden.arrays, ArrayRecord(kind="hidden", layer=2, width=8, dtype="bfloat16")]
    assert said(golden.model_copy(update={"arrays": arrays})).endswith("; hidden/2 is of layer 2 of 1")


@pytest.mark.parametrize("section", ["teacher", "corpus"])
def test_an_identity_without_a_section_contradicts_it(golden: CacheManifest, section: str) -> None:
    for identity in (golden.identity | {section: "x"}, {k: v for k, v in golden.identity.items() if k != section}):
        fields = {part.split(":")[0] for part in said(golden.model_copy(update={"identity": identity})).split("; ")}
        assert {place.split(".")[0] for place in fields} == {section}


def test_a_cache_that_keeps_no_matrix_says_no_dtype(golden: CacheManifest) -> None:
    """The compute dtype of an encoder stands in its identity alone."""
    golden.model_copy(update={"teacher": golden.teacher.model_copy(update={"head": None})}).check_copies(GOLDEN)


def test_an_unknown_codec_is_named(golden: CacheManifest, tmp_path: Path) -> None:
    (tmp_path / "cache.json").write_text(golden.to_json().replace('"encoding": "raw"', '"encoding": "rans"'))
    with pytest.raises(
        CacheError, match=r"cache\.json: unknown codec 'rans'; available: draws, fp8, int8, raw, rvq, zstd;"
    ):
        read_manifest(tmp_path)


def test_an_altered_identity_is_named(golden: CacheManifest, tmp_path: Path) -> None:
    (tmp_path / "cache.json").write_text(golden.to_json().replace('"append_eos": false', '"append_eos": true'))
    with pytest.raises(CacheError) as refused:
        read_manifest(tmp_path)
    assert str(refused.value) == (
        f"{tmp_path}/cache.json was altered: its identity does not hash to its fingerprint; extract again"
    )
    with pytest.raises(CacheError) as refused:
        read_manifest(tmp_path / "none")
    assert str(refused.value) == f"{tmp_path}/none is not a stillroom cache: there is no cache.json"
