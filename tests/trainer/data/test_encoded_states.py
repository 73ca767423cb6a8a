"""Rows as they lie on disk, gathered over a batch and decoded into their places."""

import numpy as np
import torch

from schemas.cache.arrays import ArrayRecord
from schemas.cache.ragged import RaggedRows, concatenate
from schemas.models.decoders.int8 import Int8Decoder
from schemas.models.decoders.rvq import RVQDecoder
from tests.schemas.models.naive_rvq import handmade_tables, random_rows
from trainer.data.encoded_states import EncodedStates, gather_rows

TABLES = handmade_tables(0)
RVQ = ArrayRecord(kind="hidden", layer=2, width=20, dtype="bfloat16", encoding="rvq")
INT8 = RVQ.model_copy(update={"encoding": "int8", "width": 3})


def ragged(counts: list[int]) -> tuple[RaggedRows, list[np.ndarray]]:
    """Samples of so many rows, and their places: every row of the sample, from its second token on."""
    rows = [random_rows(TABLES, count, seed, raw=0.4) for seed, count in enumerate(counts)]
    return concatenate([RaggedRows.of(data.numpy(), sizes.numpy()) for data, sizes in rows]), [
        np.arange(n) + 1 for n in counts
    ]


def test_ragged_rows_are_gathered_as_they_are() -> None:
    rows, places = ragged([4, 0, 7])
    found = gather_rows(RVQ, rows, places, 8)
    assert found.array == ("hidden", 2) and found.shape == (3, 8)
    assert found.data.numpy().tobytes() == rows.data.tobytes()
    assert found.size_N.tolist() == rows.sizes.tolist()
    assert found.raw_R.tolist() == [row for row, size in enumerate(found.size_N.tolist()) if size == 40]
    assert found.place_N.tolist() == [1, 2, 3, 4, *range(17, 24)]
    assert len(found.raw_R) > 0


def test_rows_are_decoded_into_their_places_and_0_is_elsewhere() -> None:
    rows, places = ragged([4, 0, 7])
    encoded = gather_rows(RVQ, rows, places, 8)
    states_BTd = encoded.decode(RVQDecoder(TABLES))
    assert states_BTd.shape == (3, 8, 20)
    wanted = TABLES.states(encoded.data, encoded.size_N)
    assert torch.equal(states_BTd[0, 1:5], wanted[:4]) and torch.equal(states_BTd[2, 1:8], wanted[4:])
    assert not states_BTd[0, 5:].any() and not states_BTd[1].any() and not states_BTd[:, 0].any()


def test_coordinates_are_decoded_where_they_are_asked_for() -> None:
    rows, places = ragged([4, 0, 7])
    plain = gather_rows(RVQ, rows, places, 8)
    encoded = EncodedStates(**{**vars(plain), "as_coordinates": True})
    y_BTK = encoded.decode(RVQDecoder(TABLES))
    assert y_BTK.shape == (3, 8, len(TABLES.basis_kd))
    assert torch.equal(y_BTK[2, 1:8], TABLES.coordinates(plain.data, plain.size_N)[4:])


def test_a_batch_without_free_places_is_not_copied_again() -> None:
    rows, _ = ragged([5, 5])
    encoded = gather_rows(RVQ, rows, [np.arange(5)] * 2, 5)
    wanted = TABLES.states(encoded.data, encoded.size_N, encoded.raw_R)
    assert torch.equal(encoded.decode(RVQDecoder(TABLES)), wanted.view(2, 5, 20))


def test_codes_with_a_row_scale_are_gathered_too() -> None:
    codes = np.array([[1, 2, 255], [3, 0, 128]], np.uint8)
    rows = np.concatenate([codes, np.array([[0.5], [2.0]], "<f4").view(np.uint8)], 1)
    encoded = gather_rows(INT8, rows, [np.arange(1)] * 2, 2)
    assert encoded.size_N.tolist() == [7, 7] and len(encoded.raw_R) == 0
    states_BTd = encoded.decode(Int8Decoder(Int8Decoder.values(), 3))
    assert states_BTd.tolist() == [[[0.5, 1.0, -0.5], [0, 0, 0]], [[6.0, 0.0, -256.0], [0, 0, 0]]]


def test_a_batch_of_no_rows_is_all_zeros() -> None:
    for array, decoder, empty in (
        (RVQ, RVQDecoder(TABLES), RaggedRows.of(np.empty(0, np.uint8), np.empty(0))),
        (INT8, Int8Decoder(Int8Decoder.values(), 3), np.empty((0, 7), np.uint8)),
    ):
        states_BTd = gather_rows(array, empty, [np.arange(0)], 4).decode(decoder)
        assert states_BTd.shape == (1, 4, array.width) and not states_BTd.any()


def test_everything_moves_to_the_device() -> None:
    rows, places = ragged([2])
    moved = gather_rows(RVQ, rows, places, 3).to(torch.device("meta"))
    assert {t.device.type for t in (moved.data, moved.size_N, moved.raw_R, moved.place_N)} == {"meta"}
    assert moved.data.dtype == torch.uint8  # as they lie on disk
