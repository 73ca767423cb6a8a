"""Tables on disk: what is read is what was written, and whatever else lies there is refused with its fault."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from schemas.cache.arrays import ArrayRecord
from schemas.cache.codec_files import CODEC_FILES
from schemas.errors import CacheError
from schemas.models.rvq_file import find_fault, load_tables
from tests.schemas.models.naive_rvq import handmade_tables, tensors_of, write_tables

ARRAY = ArrayRecord(kind="hidden", layer=2, width=20, dtype="bfloat16", encoding="rvq")


@pytest.mark.parametrize("inner", [False, True])
def test_tables_come_back(tmp_path: Path, inner: bool) -> None:
    tensors = tensors_of(handmade_tables(0, inner=inner))
    write_tables(tmp_path, tensors)
    found = tensors_of(load_tables(tmp_path, ARRAY))
    assert all(torch.equal(found[name], tensor) for name, tensor in tensors.items())


def test_missing_tables_are_named_with_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(CacheError, match=r"hidden-2.safetensors is missing, .* hidden/2 are decoded; remove .*codecs"):
        load_tables(tmp_path, ARRAY)


def test_altered_tables_are_refused(tmp_path: Path) -> None:
    path = write_tables(tmp_path, tensors_of(handmade_tables(0)))
    damaged = bytearray(path.read_bytes())
    damaged[-5] ^= 4
    path.write_bytes(damaged)
    with pytest.raises(CacheError, match="does not have its checksum"):
        load_tables(tmp_path, ARRAY)


def test_a_file_that_is_not_of_safetensors_is_refused(tmp_path: Path) -> None:
    path = write_tables(tmp_path, tensors_of(handmade_tables(0)))
    path.write_bytes(b"not one")
    CODEC_FILES.write_record(path.parent)
    with pytest.raises(CacheError, match=r"cannot read .*hidden-2.safetensors.*extract again"):
        load_tables(tmp_path, ARRAY)


def test_tables_of_another_width_are_refused(tmp_path: Path) -> None:
    write_tables(tmp_path, tensors_of(handmade_tables(0, width=24)))
    with pytest.raises(
        CacheError, match=r"tables of hidden/2: decoder_kd is float32 \[24, 24\], not float32 \[24, 20\]"
    ):
        load_tables(tmp_path, ARRAY)


Change = Callable[[dict[str, Tensor]], object]
FAULTS: dict[str, tuple[Change, str]] = {
    "lacks one": (lambda t: t.pop("gains"), "its tensors are band_S, bands"),
    "has another": (lambda t: t.update(more=torch.zeros(1)), "its tensors are"),
    "another dtype": (lambda t: t.update(gains=t["gains"].double()), r"gains is float64 \[256\], not float32 \[256\]"),
    "another shape": (lambda t: t.update(gains=t["gains"][1:]), r"gains is float32 \[255\]"),
    "a number for a list": (lambda t: t.update(band_S=torch.tensor(1).int()), r"band_S is int32 \[\]"),
    "not finite": (lambda t: t["codebooks"][3, 7].fill_(torch.inf), "codebooks holds numbers that are not finite"),
    "not a number": (lambda t: t["mean_d"][3].fill_(torch.nan), "mean_d holds numbers that are not finite"),
    "a gap": (lambda t: t["bands"][0, 1].sub_(1), "do not cover"),
    "starts late": (lambda t: t["bands"][0, 0].add_(1), "do not cover"),
    "ends early": (lambda t: t["bands"][-1, 1].sub_(1), "do not cover"),
    "no such band": (lambda t: t["band_S"][0].fill_(99), "a band that there is not"),
    "a negative band": (lambda t: t["band_S"][0].fill_(-1), "a band that there is not"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_is_said(fault: str) -> None:
    tensors = {name: tensor.clone() for name, tensor in tensors_of(handmade_tables(0)).items()}
    assert find_fault(tensors, 20) is None
    change, said = FAULTS[fault]
    change(tensors)
    found = find_fault(tensors, 20)
    assert found is not None
    with pytest.raises(CacheError, match=said):
        raise CacheError(found)


def test_a_band_that_is_too_wide_is_a_fault() -> None:
    tensors = tensors_of(handmade_tables(0))
    tensors |= {"bands": torch.tensor([[0, 9], [9, 20]]).int(), "band_S": torch.zeros(11).int()}
    tensors["scales_TB"] = torch.ones(12, 2)
    assert find_fault(tensors, 20) == "its bands are not 1 to 8 components wide"


def test_coded_rows_must_be_shorter_than_raw_ones() -> None:
    tensors = tensors_of(handmade_tables(0, width=20, stages=39))
    assert find_fault(tensors, 20) == "its 39 stages take as many bytes as a row that is kept raw"
    assert find_fault(tensors_of(handmade_tables(0, width=20, stages=38)), 20) is None
