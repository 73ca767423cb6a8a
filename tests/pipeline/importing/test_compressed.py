"""DistillKit's compressed rows, against rows that are packed here bit by bit."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.importing.compressed import read_compression
from schemas.errors import ConfigError, CorpusError
from tests.pipeline.importing.foreign import COMPRESSION, compress


def written(folder: Path, text: str = COMPRESSION) -> Path:
    (folder / "compression_config.yaml").write_text(text)
    return folder


def test_rows_are_unpacked(tmp_path: Path) -> None:
    compression = read_compression(written(tmp_path))
    assert compression is not None
    rng, ids, packed, wanted = np.random.default_rng(0), [], [], []
    for _ in range(5):
        tokens = rng.permutation(400)[:24]
        logprobs = np.sort(np.log(rng.dirichlet(np.full(400, 0.05))[:24] + 1e-9))[::-1]
        id_bytes, value_bytes, read = compress(tokens, logprobs, 4, [0, 1, 2, "sqrt"], [(5, 7), (3, 9)])
        ids.append((tokens, np.frombuffer(id_bytes, np.uint8)))
        packed.append(np.frombuffer(value_bytes, np.uint8))
        wanted.append(read)
    found_ids, found = compression.unpack([each for _, each in ids], packed, "x:1")
    for (tokens, _), unpacked, values, read in zip(ids, found_ids, found, wanted, strict=True):
        assert unpacked.tolist() == tokens.tolist()
        np.testing.assert_allclose(values, read, rtol=1e-5, atol=1e-5)
    assert compression.unpack([], [], "x:1") == ([], [])
    with pytest.raises(CorpusError, match=r"x:1: bytepacked_indices has a row of 3 bytes, and .* makes rows of 27"):
        compression.unpack([np.zeros(3, np.uint8)], packed[:1], "x:1")
    with pytest.raises(CorpusError, match="1 rows of bytepacked_indices and 2 of compressed_logprobs"):
        compression.unpack([ids[0][1]], packed[:2], "x:1")


def test_one_bit_stands_for_the_scale_or_its_negative(tmp_path: Path) -> None:
    """By hand, without terms and differences: 0b1010... and a scale of 0.5."""
    text = "{d: 2, k: 3, exact_k: 1, exact_dtype: float16, delta_encoding: false, residual_bins: [%s]}"
    bins = "{scale_dtype: float16, element_bits: 1, num_elements: 2}"
    compression = read_compression(written(tmp_path, text % bins))
    assert compression is not None
    row = np.frombuffer(np.float16(-2).tobytes() + np.float16(0.5).tobytes() + bytes([0b10000000]), np.uint8)
    found_ids, (values,) = compression.unpack([np.array([0b01100000], np.uint8)], [row], "x:1")
    assert values.tolist() == [-2, 0.5, -0.5] and found_ids[0].tolist() == [0, 1, 1]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("d: 400", "is not DistillKit's"),
        ("{", "is not valid YAML"),
        (
            "{d: 4, k: 2, exact_k: 2, residual_bins: [{scale_dtype: float16, element_bits: 1, num_elements: 1}]}",
            "its parts",
        ),
        ("{d: 4, k: 2, exact_k: 0, residual_bins: [], polynomial_terms: [-1]}", "a power is negative"),
        ("{d: 4, k: 2, exact_k: 0, residual_bins: [], polynomial_terms: [cos]}", "is not DistillKit's"),
    ],
)
def test_a_config_that_is_none_is_refused(tmp_path: Path, text: str, said: Any) -> None:
    with pytest.raises(ConfigError, match=said):
        read_compression(written(tmp_path, text))
    assert read_compression(tmp_path / "elsewhere") is None
