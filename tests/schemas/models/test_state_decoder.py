"""Decoders by encoding, as they are loaded of a cache's folder."""

from pathlib import Path

import pytest
import torch

from schemas.cache.arrays import ArrayRecord
from schemas.cache.codec import CODECS
from schemas.errors import CacheError
from schemas.models.decoders.rvq import RVQDecoder
from schemas.models.state_decoder import DECODERS, FoldableDecoder, load_decoders
from tests.schemas.models.naive_rvq import handmade_tables, random_rows, tensors_of, write_tables
from tests.shards import manifest


def array(layer: int, encoding: str) -> ArrayRecord:
    return ArrayRecord(kind="hidden", layer=layer, width=20, dtype="bfloat16", encoding=encoding)


def test_every_decoder_is_of_a_codec_and_that_of_rvq_can_be_folded() -> None:
    assert set(DECODERS) == {"fp8", "int8", "rvq"} and set(DECODERS) < set(CODECS)
    assert [name for name, kind in DECODERS.items() if issubclass(kind, FoldableDecoder)] == ["rvq"]


def test_arrays_that_need_a_decoder_get_theirs(tmp_path: Path) -> None:
    write_tables(tmp_path, tensors_of(handmade_tables(0)))
    arrays = [array(0, "raw"), array(1, "fp8"), array(2, "rvq")]
    decoders = load_decoders(tmp_path, manifest(1).model_copy(update={"arrays": arrays}))
    assert {key: decoder.name for key, decoder in decoders.items()} == {("hidden", 1): "fp8", ("hidden", 2): "rvq"}
    assert [DECODERS[encoding].raw_size_of(array(1, encoding)) for encoding in ("fp8", "int8", "rvq")] == [
        None,
        None,
        40,
    ]
    assert decoders["hidden", 2].raw_size == 40 and decoders["hidden", 1].raw_size is None
    with pytest.raises(CacheError, match="hidden-2"):
        load_decoders(tmp_path / "elsewhere", manifest(1).model_copy(update={"arrays": arrays}))


def test_the_decoder_of_tables_decodes_as_they_do() -> None:
    tables = handmade_tables(1, inner=True)
    data, size_N = random_rows(tables, 20, 2)
    decoder = RVQDecoder(tables)
    assert torch.equal(decoder.states(data, size_N), tables.states(data, size_N))
    assert torch.equal(decoder.coordinates(data, size_N), tables.coordinates(data, size_N))
    weight_Vd = torch.randn(5, 20)
    assert torch.equal(decoder.fold(weight_Vd), weight_Vd @ decoder.basis_Kd.T)
