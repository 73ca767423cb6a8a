"""One byte per number, against the decoders that readers have."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from pipeline.encoding.row_scaled import encode_fp8, encode_int8
from schemas.models.decoders.fp8 import Float8Decoder
from schemas.models.decoders.int8 import Int8Decoder
from schemas.models.row_scaled import RowScaledDecoder
from tests.pipeline.encoding.layers import WIDTH, layer

CASES = pytest.mark.parametrize(
    ("encode", "decoder", "most"),
    [(encode_fp8, Float8Decoder, 1 / 16), (encode_int8, Int8Decoder, 1 / 254)],
    ids=["fp8", "int8"],
)


def decoded(encode: Callable[[Tensor], Tensor], decoder: type[RowScaledDecoder], rows: Tensor) -> np.ndarray:
    encoded = encode(rows)
    assert encoded.dtype == torch.uint8 and encoded.shape == (len(rows), rows.shape[1] + 4)
    sizes = torch.full((len(rows),), rows.shape[1] + 4)
    return decoder(decoder.values(), rows.shape[1]).states(encoded.flatten(), sizes).numpy()


@CASES
def test_numbers_are_off_by_half_a_step(
    encode: Callable[[Tensor], Tensor], decoder: type[RowScaledDecoder], most: float
) -> None:
    rows = layer(100).bfloat16()
    true = rows.float().numpy()
    found = decoded(encode, decoder, rows)
    # Of 8-bit floats, half a step is a sixteenth of the number itself, or 2^-10 of the smallest normal one.
    scale = np.abs(true).max(1, keepdims=True)
    allowed = np.maximum(np.abs(true), scale * 2**-6 / 448) * most if most == 1 / 16 else scale * most
    assert (np.abs(found - true) <= 1.001 * allowed).all()


@CASES
def test_the_largest_number_of_a_row_stays_and_rows_of_zeros_are_zeros(
    encode: Callable[[Tensor], Tensor], decoder: type[RowScaledDecoder], most: float
) -> None:
    rows = torch.zeros(2, WIDTH)
    rows[0, 3] = -7.5
    np.testing.assert_allclose(decoded(encode, decoder, rows), rows.numpy(), rtol=1e-6)
