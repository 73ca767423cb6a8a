"""Compressed text files: what the end of a name says, and the stream of what is inside."""

import bz2
import gzip
import io
import lzma
import zlib
from collections.abc import Callable
from typing import Any, BinaryIO, cast

import pyarrow as pa


def _zstd(stream: BinaryIO) -> Any:
    return pa.CompressedInputStream(pa.PythonFile(stream, mode="r"), "zstd")


OPENERS: dict[str, Callable[[BinaryIO], Any]] = {
    ".gz": lambda stream: gzip.GzipFile(fileobj=stream),
    ".bz2": bz2.BZ2File,
    ".xz": lzma.LZMAFile,
    ".zst": _zstd,
}
# What a damaged file raises while it is read, beside OSError.
DAMAGE = (EOFError, zlib.error, lzma.LZMAError, pa.ArrowException)


def compressed_suffix(name: str) -> str:
    """The end of a file's name that says how it is compressed, in lower case; empty for none."""
    return next((suffix for suffix in OPENERS if name.lower().endswith(suffix)), "")


def decompress(stream: BinaryIO, suffix: str) -> BinaryIO:
    """What is inside `stream`, front to back, in bounded memory."""
    if not suffix:
        return stream
    return cast(BinaryIO, io.BufferedReader(OPENERS[suffix](stream), buffer_size=1 << 20))
