"""Compressed streams behind one another: whole, or an error; never cut short in silence."""

import bz2
import gzip
import io
import lzma
import random
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from schemas.texts.compression import DAMAGE, decompress

CONTENT = [bytes(random.Random(seed).choices(b"abcdef\n", k=200_000)) for seed in (0, 1)]
PACK: dict[str, Callable[[bytes], bytes]] = {".bz2": bz2.compress, ".xz": lzma.compress}


def packed_in_a_row(suffix: str) -> bytes:
    return b"".join(PACK[suffix](content) for content in CONTENT)


def read(packed: bytes, suffix: str) -> bytes:
    return decompress(io.BytesIO(packed), suffix).read()


@pytest.mark.parametrize("suffix", PACK)
def test_two_streams_are_read_as_one(suffix: str) -> None:
    assert read(PACK[suffix](CONTENT[0]), suffix) == CONTENT[0]
    assert read(packed_in_a_row(suffix), suffix) == b"".join(CONTENT)
    assert read(PACK[suffix](b"") + PACK[suffix](CONTENT[1]), suffix) == CONTENT[1]


def test_padding_of_xz_is_passed_over() -> None:
    packed = b"\0" * 8
    assert read(lzma.compress(CONTENT[0]) + packed + lzma.compress(CONTENT[1]) + packed, ".xz") == b"".join(CONTENT)


@pytest.mark.parametrize("suffix", PACK)
@pytest.mark.parametrize("damage", ["magic", "garbage", "cut", "empty"])
def test_what_is_behind_the_first_stream_is_not_dropped(suffix: str, damage: str) -> None:
    first, second = (PACK[suffix](content) for content in CONTENT)
    packed = {
        "magic": first + bytes([second[0] ^ 1]) + second[1:],
        "garbage": first + b"not a stream",
        "cut": first + second[: len(second) // 2],
        "empty": b"",
    }[damage]
    with pytest.raises((*DAMAGE, OSError)):
        read(packed, suffix)


@pytest.mark.parametrize("suffix", [".gz", ".zst", *PACK])
def test_an_empty_file_is_no_stream(suffix: str) -> None:
    """A compressed file of nothing has bytes: one without any was cut as it was copied, or never written."""
    with pytest.raises(EOFError, match=r"^the compressed stream ends before its end-of-stream marker$"):
        read(b"", suffix)
    nothing = {".gz": gzip.compress, ".zst": lambda content: pa.compress(content, "zstd", asbytes=True), **PACK}[suffix]
    assert read(nothing(b""), suffix) == b""


@pytest.mark.parametrize("suffix", PACK)
def test_it_agrees_with_the_standard_library_on_a_file(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"x{suffix}"
    path.write_bytes(packed_in_a_row(suffix))
    truth = bz2.decompress(path.read_bytes()) if suffix == ".bz2" else lzma.decompress(path.read_bytes())
    with path.open("rb") as stream:
        assert decompress(stream, suffix).read() == truth
