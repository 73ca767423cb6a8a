"""What a GGUF file says before its tensors: values by key, and how every tensor is stored.

Read here before any library is given the file: these trust its counts, and walk through an array of 2^60 numbers that
is not there. The layout is that of https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, versions 2 and 3, little
endian. Needs the package gguf, which knows the sizes of ggml's blocks.
"""

import math
import mmap
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from schemas.errors import ModelError
from schemas.shown import quoted
from schemas.storage.regular import open_regular

MAGIC = b"GGUF"
VERSIONS = (2, 3)
WAY_OUT = "pip install 'stillroom[gguf]'"
MOST_DIMENSIONS = 8
_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
_DEFAULT_ALIGNMENT = 32


@dataclass(frozen=True)
class StoredTensor:
    """One tensor, as the file lists it."""

    type: str
    """Of its numbers or blocks, in ggml's names: F32, Q8_0, Q4_K."""
    numbers: int
    """How many it has, of whatever type."""


@dataclass(frozen=True)
class GgufHeader:
    """All of a GGUF file but its numbers."""

    values: dict[str, Any]
    """Numbers and texts by their keys; of arrays, which may be a whole vocabulary, the lengths."""
    tensors: dict[str, StoredTensor]
    bytes: int
    """Where the tensors begin."""

    @property
    def types(self) -> list[str]:
        """The types of its tensors, the one of most numbers first."""
        numbers: dict[str, int] = {}
        for tensor in self.tensors.values():
            numbers[tensor.type] = numbers.get(tensor.type, 0) + tensor.numbers
        return sorted(numbers, key=lambda name: (-numbers[name], name))


def read_gguf_header(path: Path) -> GgufHeader:
    """Raises ModelError: no GGUF file, one that is cut off or damaged, a part of several, or no package for it."""
    try:
        from gguf.constants import GGML_QUANT_SIZES
    except ImportError as error:
        raise ModelError(f"{path} is a GGUF file, which needs the package gguf: {WAY_OUT}") from error
    sizes = {int(number): (number.name, *size) for number, size in GGML_QUANT_SIZES.items()}
    try:
        with open_regular(path) as file:
            if file.read(len(MAGIC)) != MAGIC:
                raise _damaged(path, "it does not begin with the letters GGUF")
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                return _Reader(path, content, sizes).read()
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror or error}") from error


def _damaged(path: Path, why: str) -> ModelError:
    return ModelError(f"{path} is no GGUF file that can be read: {why}; fetch it again")


class _Reader:
    """Goes through the file once, and never past its end."""

    def __init__(self, path: Path, content: mmap.mmap, sizes: dict[int, tuple[str, int, int]]):
        self._path, self._content, self._sizes, self._place = path, content, sizes, len(MAGIC)

    def read(self) -> GgufHeader:
        """All that stands before the weights. Raises ModelError."""
        version, tensors, values = self._unpack("IQQ")
        if version not in VERSIONS:
            raise _damaged(self._path, f"its version is {version}, and {' and '.join(map(str, VERSIONS))} are known")
        found = self._by_name(values, "key", lambda: self._value(self._unpack("I")[0]))
        if found.get("split.count", 1) != 1:
            raise ModelError(
                f"{self._path} is one of {found['split.count']} parts of a model: join them (llama.cpp's "
                "`llama-gguf-split --merge`), and name the whole"
            )
        listed = self._by_name(tensors, "tensor", self._tensor)
        alignment = found.get("general.alignment", _DEFAULT_ALIGNMENT)
        if not isinstance(alignment, int) or not 0 < alignment <= 1 << 20:
            raise _damaged(self._path, f"general.alignment is {quoted(alignment)}")
        begin = -(-self._place // alignment) * alignment
        for name, (_, offset, size) in listed.items():
            if begin + offset + size > len(self._content):
                raise _damaged(self._path, f"it ends before its tensor {quoted(name)} does")
        return GgufHeader(found, {name: stored for name, (stored, _, _) in listed.items()}, begin)

    def _by_name(self, count: int, what: str, read: Callable[[], Any]) -> dict[str, Any]:
        self._require(count)  # each takes more than a byte
        found: dict[str, Any] = {}
        for _ in range(count):
            name = self._text()
            if name in found:
                raise _damaged(self._path, f"it has the {what} {quoted(name)} twice")
            found[name] = read()
        return found

    def _tensor(self) -> tuple[StoredTensor, int, int]:
        """What is stored, where behind the header, and in how many bytes."""
        (dimensions,) = self._unpack("I")
        if not dimensions <= MOST_DIMENSIONS:
            raise _damaged(self._path, f"a tensor has {dimensions} dimensions")
        numbers = math.prod(self._unpack(f"{dimensions}Q"))
        number, offset = self._unpack("IQ")
        if number not in self._sizes:
            raise ModelError(
                f"{self._path} stores a tensor in ggml's type {number}, which the package gguf here does not know: "
                "pip install -U gguf, or take another quantisation of the model"
            )
        name, block, size = self._sizes[number]
        return StoredTensor(name, numbers), offset, -(-numbers // block) * size

    def _value(self, kind: int) -> Any:
        """A number or a text; of an array the length."""
        if kind in _SCALARS:
            return self._unpack(_SCALARS[kind])[0]
        if kind == _STRING:
            return self._text()
        if kind != _ARRAY:
            raise _damaged(self._path, f"it has a value of the unknown type {kind}")
        of, length = self._unpack("IQ")
        if of in _SCALARS:
            self._take(length * struct.calcsize(f"<{_SCALARS[of]}"))
        elif of == _STRING:
            self._require(length)
            for _ in range(length):
                self._take(self._unpack("Q")[0])
        else:
            raise _damaged(self._path, "it has an array of arrays")
        return length

    def _text(self) -> str:
        (length,) = self._unpack("Q")
        start = self._take(length)
        try:
            return self._content[start : start + length].decode()
        except UnicodeDecodeError as error:
            raise _damaged(self._path, f"a text in it is not UTF-8 ({error.reason})") from error

    def _unpack(self, layout: str) -> tuple[Any, ...]:
        layout = f"<{layout}"
        return struct.unpack_from(layout, self._content, self._take(struct.calcsize(layout)))

    def _take(self, size: int) -> int:
        """Where so many bytes begin, which are then behind."""
        self._require(size)
        start, self._place = self._place, self._place + size
        return start

    def _require(self, size: int) -> None:
        if size > len(self._content) - self._place:
            raise _damaged(self._path, "it ends in its header")
