"""Encoders in CACHE/codecs, and out of it again."""

from pathlib import Path

import pytest
import torch

from pipeline.encoding.calibrate import Goal, calibrate_final, calibrate_inner
from pipeline.encoding.files import encoder_file, load_encoder, save_encoders
from pipeline.encoding.head import Head
from schemas.cache.arrays import ArrayRecord
from schemas.cache.codec_files import CODEC_FILES, CODEC_FOLDER
from schemas.errors import CacheError
from schemas.models.logits import LogitTransform
from tests.pipeline.encoding.layers import WIDTH, layer

INNER, FINAL = (
    ArrayRecord(kind="hidden", layer=number, width=WIDTH, dtype="bfloat16", encoding="rvq") for number in (1, 3)
)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cache")
    head = Head(torch.eye(WIDTH), None, LogitTransform())
    inner = calibrate_inner(layer(600), layer(300, seed=1), Goal(0.1))
    final = calibrate_final(layer(600), layer(300, seed=1), head, Goal(0.05, bound=1.5))
    save_encoders(folder, {INNER: inner, FINAL: final})
    return folder


@pytest.mark.parametrize("array", [INNER, FINAL])
def test_what_is_loaded_gives_the_same_bytes(cache: Path, array: ArrayRecord) -> None:
    head = Head(torch.eye(WIDTH), None, LogitTransform())
    made = (
        calibrate_inner(layer(600), layer(300, seed=1), Goal(0.1))
        if array is INNER
        else calibrate_final(layer(600), layer(300, seed=1), head, Goal(0.05, bound=1.5))
    )
    loaded, rows = load_encoder(cache, array), layer(500, seed=4)
    assert (loaded.price, loaded.bound, loaded.relative) == (made.price, made.bound, array is INNER)
    assert torch.equal(loaded.encode(rows).data, made.encode(rows).data)
    assert torch.equal(loaded.encode(rows).size_N, made.encode(rows).size_N)


def test_the_folder_is_covered_by_its_checksums_and_stays_once_it_is_there(cache: Path) -> None:
    assert CODEC_FILES.check(cache)
    before = {path.name: path.read_bytes() for path in (cache / CODEC_FOLDER).iterdir()}
    save_encoders(cache, {INNER: calibrate_inner(layer(300), layer(300, seed=1), Goal(0.3))})
    assert {path.name: path.read_bytes() for path in (cache / CODEC_FOLDER).iterdir()} == before
    assert len(before) == 5


def test_an_altered_file_is_refused(cache: Path, tmp_path: Path) -> None:
    copy = tmp_path / "cache"
    (copy / CODEC_FOLDER).mkdir(parents=True)
    for path in (cache / CODEC_FOLDER).iterdir():
        (copy / CODEC_FOLDER / path.name).write_bytes(path.read_bytes())
    path = copy / CODEC_FOLDER / encoder_file(INNER)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(CacheError, match=r"hidden-1\.encoder\.safetensors does not have its checksum"):
        load_encoder(copy, INNER)
