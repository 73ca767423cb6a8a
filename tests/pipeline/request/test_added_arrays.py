"""Layers and kinds that are added to a cache: what was there stays to the byte, what is new is what a fresh extraction
of the whole gives, and every command sees one cache."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jobs.diff import show_difference
from jobs.inspect import show_caches
from jobs.repair import repair_cache
from jobs.verify import ReplayOptions, replay_cache, verify_cache
from pipeline.corpus.sample import Sample
from pipeline.output.resume import find_complete
from pipeline.request.request import make_request
from pipeline.work.annotate import AnnotatedUnit, annotate_unit
from pipeline.work.job import Job
from schemas.cache.manifest import read_manifest
from schemas.cache.ragged import RaggedRows
from schemas.cache.reader import Cache
from schemas.cache.union import CacheUnion
from schemas.configs.extraction import ExtractionConfig
from schemas.errors import CacheError, CorpusError
from schemas.models.state_difference import StateReader
from tests.caches import as_recorded, build_cache, extend_here, extraction, write_corpus
from tests.files import damage, hashes
from tests.tiny import TEXTS, tiny_llama, tiny_tokenizer

SAMPLES = 12
SEALS = {"cache.json", "checksums.json"}
FEW = {"hidden": [1], "mass": [2]}
MORE = {"hidden": [1, 2, "last"], "mass": [2, 3], "top_k": {"k": 4}, "sampled": {"draws": 6}}


def config(folder: Path, name: str, states: dict[str, Any], samples: int = SAMPLES) -> ExtractionConfig:
    corpus = write_corpus(folder / f"{name}.jsonl", TEXTS[:samples])
    states = {"dtype": "bfloat16", "encoding": "small", "rows": "targets", **states}
    batching = {"unit_tokens": 120, "batch_tokens": 128}
    return extraction(folder / name, folder / "teacher", corpus, states=states, batching=batching)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The caches `few`, `grown` from it, and `fresh`, which had all arrays from the beginning."""
    folder = tmp_path_factory.mktemp("added")
    tiny_llama(folder / "teacher", tiny_tokenizer(folder / "teacher", "bpe"))
    build_cache(config(folder, "few", FEW))
    shutil.copytree(folder / "few", folder / "grown")
    extend_here(config(folder, "grown", MORE))
    build_cache(config(folder, "fresh", MORE))
    return folder


def copy(folder: Path, name: str, to: Path) -> Path:
    return Path(shutil.copytree(folder / name, to))


def test_what_was_there_stays_and_what_is_new_is_a_fresh_extraction_to_the_byte(folder: Path) -> None:
    few, grown, fresh = (hashes(folder / name) for name in ("few", "grown", "fresh"))
    assert {name for name in few if grown.get(name) != few[name]} == SEALS
    manifest = read_manifest(folder / "grown")
    first = read_manifest(folder / "few")
    part = {
        "fingerprint": first.fingerprint,
        "samples": SAMPLES,
        "units": first.units,
        "arrays": ["hidden/1", "mass/2"],
    }
    assert [part.model_dump() for part in manifest.parts] == [part] and manifest.version == 3
    assert manifest.arrays == read_manifest(folder / "fresh").arrays
    added = {name.removeprefix("added/1/"): said for name, said in grown.items() if name.startswith("added/")}
    # Every number and every table is that of a fresh extraction; what else differs, names the cache it is of.
    different = {name for name, said in (few | added).items() if fresh.get(name) != said} - SEALS
    records = {f"shards/{unit:05d}/shard.json" for unit in range(first.units)}
    assert different == records | {"codecs/files.json"}
    texts = {f"shards/{unit:05d}/samples.arrow" for unit in range(first.units)}
    assert {name for name in fresh if name not in few | added} == set() and not texts & set(added)
    verify_cache(folder / "grown")
    assert find_complete(folder / "grown", make_request(config(folder, "grown", MORE), manifest).manifest) is not None


def test_a_reader_finds_every_array_and_older_ones_say_what_they_cannot_read(folder: Path) -> None:
    grown, fresh = Cache(folder / "grown"), Cache(folder / "fresh")
    for position in range(SAMPLES):
        assert grown.sample(position).equals(fresh.sample(position))
        for left, right in zip(*(c.states(position, grown.manifest.arrays) for c in (grown, fresh)), strict=True):
            pairs = (
                [(left.data, right.data), (left.sizes, right.sizes)]
                if isinstance(left, RaggedRows)
                else [(left, right)]
            )
            assert all(np.array_equal(*pair) for pair in pairs)
    said = json.loads((folder / "grown/cache.json").read_text())
    assert said["version"] == 3 and said["identity"]["format"] == "stillroom-cache 3"
    assert json.loads((folder / "few/cache.json").read_text())["version"] == 2


def test_an_extension_that_was_cut_off_leaves_the_cache_as_it_was_and_goes_on(folder: Path, tmp_path: Path) -> None:
    cache = copy(folder, "few", tmp_path / "cut-off")
    shutil.copytree(folder / "teacher", tmp_path / "teacher")
    before, made = hashes(cache), list[int]()

    def annotate(job: Job, number: int, samples: list[Sample]) -> AnnotatedUnit:
        made.append(number)
        if len(made) > 1:
            raise KeyboardInterrupt
        return annotate_unit(job, number, samples)

    with pytest.raises(KeyboardInterrupt):
        extend_here(config(tmp_path, "cut-off", MORE), annotate)
    now = hashes(cache)
    assert {name: now[name] for name in before} == before and len(now) > len(before)
    assert len(Cache(cache)) == SAMPLES and Cache(cache).manifest.version == 2
    verify_cache(cache)
    units = [report.record.unit for report in extend_here(config(tmp_path, "cut-off", MORE))]
    assert units == list(range(1, read_manifest(cache).units))
    assert hashes(cache) == hashes(folder / "grown")
    assert extend_here(config(tmp_path, "cut-off", MORE)) == []


def test_what_another_extension_left_is_removed(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cache = copy(folder, "few", tmp_path / "cache")
    shutil.copytree(folder / "teacher", tmp_path / "teacher")
    shutil.copytree(folder / "grown/added", cache / "added")
    extend_here(config(tmp_path, "cache", FEW | {"hidden": [1, 2]}))
    assert f"{cache}/added/1 was left by another extension, which was not finished" in capsys.readouterr().out
    verify_cache(cache)
    assert [array.path for array in Cache(cache).manifest.arrays] == ["hidden/1", "hidden/2", "mass/2"]
    tables = "codecs/hidden-2.safetensors"
    assert (cache / "added/1" / tables).read_bytes() == (folder / "fresh" / tables).read_bytes()


def test_samples_are_added_to_all_arrays_and_lost_shards_are_made_again(folder: Path, tmp_path: Path) -> None:
    cache = copy(folder, "grown", tmp_path / "cache")
    shutil.copytree(folder / "teacher", tmp_path / "teacher")
    before, units = hashes(cache), read_manifest(cache).units
    longer = config(tmp_path, "cache", MORE, SAMPLES + 8)
    reports = extend_here(longer)
    whole, manifest = hashes(cache), read_manifest(cache)
    assert [report.record.unit for report in reports] == list(range(units, manifest.units))
    assert {name for name in before if whole[name] != before[name]} == SEALS | {"index.parquet"}
    assert [part.arrays for part in manifest.parts] == [["hidden/1", "mass/2"], None]
    verify_cache(cache)
    for lost in ("shards/00000", "added/1/shards/00000", f"added/1/shards/{units:05d}", "added/1/codecs"):
        shutil.rmtree(cache / lost)
    extend_here(longer)
    assert hashes(cache) == whole


def test_damage_is_found_in_either_part_and_only_that_is_dropped_and_made_again(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cache = copy(folder, "grown", tmp_path / "cache")
    shutil.copytree(folder / "teacher", tmp_path / "teacher")
    whole = hashes(cache)
    first, second = cache / "shards/00001", cache / "added/1/shards/00000"
    damage(first / "samples.arrow")
    damage(second / "states.zarr/mass/3/c/0")
    with pytest.raises(CacheError) as refused:
        verify_cache(cache)
    total = 2 * read_manifest(cache).units
    assert str(refused.value).startswith(f"2 of {total} shards are damaged:\n  {first}/samples.arrow does not have its")
    assert f"{second}/states.zarr/mass/3/c/0 does not have its" in str(refused.value)
    with pytest.raises(CacheError, match=r"states\.zarr/mass/3/c/0 does not have its checksum"):
        reader = Cache(cache)
        reader.states(0, [reader.array("mass", 3)])[0][:]
    repair_cache(cache)
    assert not first.exists() and not second.exists() and (cache / "added/1/shards/00001").exists()
    assert f"2 of {total} shards were dropped" in capsys.readouterr().out
    extend_here(config(tmp_path, "cache", MORE))
    assert hashes(cache) == whole


def test_shards_of_other_samples_are_refused(folder: Path, tmp_path: Path) -> None:
    """Rows of one text beside those of another, with all checksums right."""
    cache = copy(folder, "grown", tmp_path / "cache")
    record = cache / "added/1/shards/00000/shard.json"
    said = json.loads(record.read_text())
    assert said["texts"] == hashes(cache)["shards/00000/samples.arrow"]
    record.write_text(json.dumps(said | {"texts": "0" * 64}))
    (cache / "checksums.json").unlink()
    reader = Cache(cache)
    with pytest.raises(CacheError, match=r"shard\.json is of other samples than .*shards/00000/samples\.arrow holds"):
        reader.states(0, [reader.array("hidden", 2)])
    with pytest.raises(CacheError, match="is of other samples"):
        verify_cache(cache)


def test_a_replay_passes_and_finds_a_shifted_row_of_what_was_added(folder: Path, tmp_path: Path) -> None:
    options = ReplayOptions(4, teacher=str(folder / "teacher"))
    replay_cache(folder / "grown", options)
    cache = copy(folder, "grown", tmp_path / "cache")
    shard = cache / "added/1/shards/00000"
    path = shard / "states.zarr/mass/3/c/0"
    np.roll(np.fromfile(path, np.float32), 1).tofile(path)
    as_recorded(shard, "states.zarr/mass/3/c/0")
    (cache / "checksums.json").unlink()
    with pytest.raises(CacheError, match="mass/3"):
        replay_cache(cache, options)


def test_it_is_shown_compared_and_read_together_as_one(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    show_caches([folder / "grown"], None)
    shown = capsys.readouterr().out
    assert all(path in shown for path in ("hidden/1", "hidden/3", "mass/3", "top_k/ids", "sampled/draws"))
    assert show_difference(folder / "grown", folder / "fresh")  # by its parts alone
    said = capsys.readouterr().out
    assert f"{SAMPLES} samples are in both, 0 in" in said and "parts" in said
    rows = [line.split("│") for line in said.splitlines() if line.startswith("│ ")]
    assert len(rows) > 8 and all(row[3].strip() == "0" for row in rows if row[2].strip().replace(",", "").isdigit())
    others = build_cache(_others(folder, tmp_path))
    union = CacheUnion([Cache(folder / "grown"), Cache(others)])
    assert len(union) == SAMPLES + 4 and union.tables == (folder / "grown", others)
    array = union.array("hidden", 2)
    alone = StateReader(Cache(others))
    assert union.tables_of(SAMPLES) == 1 and alone.read(0, array).count == len(union.states(SAMPLES, [array])[0])


def _others(folder: Path, tmp_path: Path) -> ExtractionConfig:
    shutil.copytree(folder / "teacher", tmp_path / "teacher")
    made = config(tmp_path, "others", MORE)
    write_corpus(tmp_path / "others.jsonl", TEXTS[20:24])
    text = (tmp_path / "others.jsonl").read_text().replace('"id": "s', '"id": "t')
    (tmp_path / "others.jsonl").write_text(text)
    return made


def test_what_is_no_growth_is_refused_in_words(folder: Path, tmp_path: Path) -> None:
    cache = copy(folder, "few", tmp_path / "cache")
    shutil.copytree(folder / "teacher", tmp_path / "teacher")
    before = hashes(cache)
    for states, said in (
        (
            {"hidden": [2], "mass": []},
            r"^the cache holds hidden/1, mass/2, and its config does not ask for it: nothing is removed",
        ),
        (MORE | {"encoding": "exact"}, r"asks for more:\n  hidden: found .*\n  states\.hidden/1\.encoding"),
        (MORE | {"rows": "all"}, 'rows: found "targets", wanted null'),
    ):
        with pytest.raises(CacheError, match=said):
            extend_here(config(tmp_path, "cache", states))
    with pytest.raises(CorpusError, match="the corpus has 5 samples, fewer than the 12 that the cache holds"):
        extend_here(config(tmp_path, "cache", MORE, 5))
    changed = config(tmp_path, "cache", MORE)
    write_corpus(tmp_path / "cache.jsonl", [*TEXTS[1:SAMPLES], TEXTS[0]])
    with pytest.raises(CorpusError, match="the corpus does not begin with the 12 samples of the cache: some of them"):
        extend_here(changed)
    teacher = json.loads((tmp_path / "teacher/config.json").read_text())
    (tmp_path / "teacher/config.json").write_text(json.dumps(teacher | {"rms_norm_eps": 0.1}))
    with pytest.raises(CacheError, match=r"teacher\.config: found"):
        extend_here(config(tmp_path, "cache", MORE))
    assert hashes(cache) == before
