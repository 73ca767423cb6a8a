"""Compressed text files: what the end of a name says, and the stream of what is inside."""

import bz2
import gzip
import io
import lzma
import zlib
from collections.abc import Callable
from typing import Any, BinaryIO, cast

import pyarrow as pa

CHUNK = 1 << 20  # compressed bytes read at a time


class _Streams(io.RawIOBase):
    """Compressed streams behind one another, each of which must be whole.

    The standard library's own readers take a damaged second stream for the end of the file, without a word.
    """

    def __init__(self, stream: BinaryIO, make: Callable[[], Any], padding: bytes = b""):
        """`make` gives a decompressor of one stream; bytes of `padding` may stand between two."""
        self._stream, self._make, self._padding = stream, make, padding
        self._decompressor, self._unread = make(), b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        """Raises EOFError at a stream that is cut, and OSError or LZMAError at one that is damaged."""
        while True:
            if self._decompressor.eof and not self._begin_next():
                return 0
            if self._decompressor.needs_input and not self._unread:
                self._unread = self._stream.read(CHUNK)
                if not self._unread:
                    raise EOFError("the compressed stream ends before its end-of-stream marker")
            content = self._decompressor.decompress(self._unread, len(buffer))
            self._unread = b""
            if content:
                buffer[: len(content)] = content
                return len(content)

    def _begin_next(self) -> bool:
        """Returns whether anything stands behind the stream that has ended."""
        rest = self._decompressor.unused_data.lstrip(self._padding)
        while not rest:
            more = self._stream.read(CHUNK)
            if not more:
                return False
            rest = more.lstrip(self._padding)
        self._unread, self._decompressor = rest, self._make()
        return True


def _zstd(stream: BinaryIO) -> Any:
    return pa.CompressedInputStream(pa.PythonFile(stream, mode="r"), "zstd")


OPENERS: dict[str, Callable[[BinaryIO], Any]] = {
    ".gz": lambda stream: gzip.GzipFile(fileobj=stream),
    ".bz2": lambda stream: _Streams(stream, bz2.BZ2Decompressor),
    ".xz": lambda stream: _Streams(stream, lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ), padding=b"\0"),
    ".zst": _zstd,
}
# What a damaged file raises while it is read, beside OSError.
DAMAGE = (EOFError, zlib.error, lzma.LZMAError, pa.ArrowException)


def compressed_suffix(name: str) -> str:
    """The end of a file's name that says how it is compressed, in lower case; empty for none."""
    return next((suffix for suffix in OPENERS if name.lower().endswith(suffix)), "")


def decompress(stream: BinaryIO, suffix: str) -> BinaryIO:
    """The content of `stream`, a file, front to back, in bounded memory. Raises EOFError for an empty one."""
    if not suffix:
        return stream
    if not stream.read(1):  # even a stream of no content has a header and an end
        raise EOFError("the compressed stream ends before its end-of-stream marker")
    stream.seek(0)
    return cast(BinaryIO, io.BufferedReader(OPENERS[suffix](stream), buffer_size=1 << 20))
