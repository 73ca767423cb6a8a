"""Calibration by a worker: once, of samples that the plan has chosen, and never anew."""

import shutil
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from torch import Tensor

import pipeline.work.calibration
from pipeline.encoding.calibrate import Goal, calibrate_inner
from pipeline.encoding.encoder import Encoder
from pipeline.encoding.unit import UnitEncoder
from pipeline.request.request import make_request
from pipeline.work.annotate import annotate_unit
from pipeline.work.calibration import where_it_fits
from pipeline.work.job import Job
from pipeline.work.worker import TeacherWorker
from schemas.cache.codec_files import CODEC_FILES, CODEC_FOLDER
from schemas.cache.manifest import read_manifest
from schemas.cache.shard import read_shard, shard_path
from schemas.cache.writer import write_manifest
from schemas.configs.extraction import ExtractionConfig
from schemas.errors import ModelError, ResourceError
from tests.caches import encoded_cache, encoded_extraction


def prepared(config: ExtractionConfig) -> Path:
    """A cache's folder after a worker's preparation."""
    request, cache = make_request(config), config.output.absolute()
    cache.mkdir(parents=True, exist_ok=True)
    write_manifest(cache, request.manifest)
    TeacherWorker(Job(config, request.folders, request.manifest, cache)).prepare(True, request.plan.calibration)
    return cache


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole cache, to be copied by those that alter it."""
    return encoded_cache(tmp_path_factory.mktemp("made"))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_same_request_gives_the_same_tables_and_what_is_there_stays(tmp_path: Path) -> None:
    first = prepared(encoded_extraction(tmp_path / "one"))
    second = prepared(encoded_extraction(tmp_path / "two"))
    made = contents(first / CODEC_FOLDER)
    assert made == contents(second / CODEC_FOLDER)
    assert made.keys() == {
        *("files.json", "hidden-1.safetensors", "hidden-1.encoder.safetensors"),
        *("hidden-3.safetensors", "hidden-3.encoder.safetensors"),
    }
    marked = first / CODEC_FOLDER / "marked"
    marked.touch()
    prepared(encoded_extraction(tmp_path / "one"))
    assert marked.exists()


def test_tables_that_were_lost_are_made_anew_to_the_byte(made: Path, tmp_path: Path) -> None:
    cache = Path(shutil.copytree(made, tmp_path / "one" / "cache"))
    shutil.rmtree(cache / CODEC_FOLDER)
    prepared(encoded_extraction(tmp_path / "one"))
    assert contents(cache / CODEC_FOLDER) == contents(made / CODEC_FOLDER) and CODEC_FILES.check(cache)


def test_every_shard_says_what_its_encoding_cost(made: Path) -> None:
    manifest = read_manifest(made)
    for unit in range(manifest.units):
        record = read_shard(shard_path(made, unit), manifest.fingerprint)
        assert record.costs.keys() == {"hidden/1", "hidden/3"}
        inner, final = record.costs["hidden/1"], record.costs["hidden/3"]
        assert inner.rows == final.rows == record.tokens and inner.kl_mean is None
        assert final.kl_mean is not None and 0 < final.kl_mean < 0.2  # a corpus of a page: tables are rough
        assert inner.cosine is not None and inner.cosine > 0.8
        assert final.bits < 16 > inner.bits


@pytest.mark.parametrize("encoding", ["fp8", "int8"])
def test_bytes_with_a_scale_need_no_tables(tmp_path: Path, encoding: str) -> None:
    cache = encoded_cache(tmp_path / "one", encoding={"codec": encoding})
    assert not (cache / CODEC_FOLDER).exists()
    record = read_shard(shard_path(cache, 0), read_manifest(cache).fingerprint)
    assert record.codecs is None and record.costs["hidden/3"].bits == pytest.approx(9)
    cosine = record.costs["hidden/3"].cosine
    assert cosine is not None and cosine > 0.999


def test_nothing_to_learn_from_is_said(tmp_path: Path) -> None:
    config = encoded_extraction(tmp_path / "one", teacher={"max_tokens": 2}, corpus={"overlong": "skip"})
    with pytest.raises(ModelError, match="every sample chosen for it is left out as too long"):
        prepared(config)


def test_one_sample_longer_than_all_that_are_wanted_is_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory grows with the rows that are learnt from, and a text may have any length."""
    lengths = list[int]()

    def remember(rows_Nd: Tensor, held_out_Nd: Tensor, goal: Goal) -> Encoder:
        lengths.extend((len(rows_Nd), len(held_out_Nd)))
        return calibrate_inner(rows_Nd, held_out_Nd, goal)

    monkeypatch.setattr(pipeline.work.calibration, "MOST_ROWS", 300)
    monkeypatch.setattr(pipeline.work.calibration, "calibrate_inner", remember)
    prepared(encoded_extraction(tmp_path / "one"))
    assert lengths == [300, 300]


@pytest.mark.parametrize("failures", [1, 2])
def test_memory_that_runs_out_beside_a_pass_may_suffice_without(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failures: int
) -> None:
    cache = Path(shutil.copytree(made, tmp_path / "one" / "cache", ignore=shutil.ignore_patterns("shards")))
    config = encoded_extraction(tmp_path / "one")
    request = make_request(config)
    job = Job(config, request.folders, request.manifest, cache)
    worker, left, encode = TeacherWorker(job), [failures], UnitEncoder.encode

    def fail_first(self: UnitEncoder, arrays: Any) -> Any:
        if left[0]:
            left[0] -= 1
            raise torch.OutOfMemoryError("no room")
        return encode(self, arrays)

    monkeypatch.setattr(UnitEncoder, "encode", fail_first)
    worker.prepare(False)
    unit, samples = next(request.plan.read_units(request.corpus))
    annotated = annotate_unit(job, unit.number, samples)
    if failures == 2:
        with pytest.raises(ResourceError, match=r"the GPU has no memory for encoding a unit's states \(no room\)"):
            worker.run(annotated)
        assert not shard_path(cache, 0).exists()
        return
    assert worker.run(annotated).record.costs["hidden/3"].rows > 0


def test_memory_that_calibration_lacks_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object) -> Encoder:
        raise torch.OutOfMemoryError("no room")

    monkeypatch.setattr(pipeline.work.calibration, "calibrate_inner", fail)
    with pytest.raises(
        ResourceError, match=r"the GPU has no memory for calibrating its codecs \(no room\); give every"
    ):
        prepared(encoded_extraction(tmp_path / "one"))
    assert not (tmp_path / "one/cache" / CODEC_FOLDER).exists()


def test_what_a_gpu_has_no_memory_for_is_calibrated_on_the_cpu(caplog: pytest.LogCaptureFixture) -> None:
    asked = list[str]()
    made = cast(Encoder, object())

    def calibrated(device: torch.device) -> Encoder:
        asked.append(device.type)
        if device.type == "cuda":
            raise torch.OutOfMemoryError("CUDA out of memory")
        return made

    assert where_it_fits(calibrated, torch.device("cuda"), "hidden/3") is made and asked == ["cuda", "cpu"]
    assert "hidden/3 is calibrated on the CPU" in caplog.text

    def broken(device: torch.device) -> Encoder:
        raise ValueError("rows")

    with pytest.raises(ValueError, match="rows"):
        where_it_fits(broken, torch.device("cuda"), "hidden/3")
