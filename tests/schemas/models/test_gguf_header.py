"""A GGUF file's header: read whole, and refused in words wherever it is cut off, damaged or absurd, at once."""

import struct
import time
from pathlib import Path

import pytest
from gguf import GGMLQuantizationType as Type
from gguf import GGUFReader

from schemas.errors import ModelError
from schemas.models.gguf_header import read_gguf_header
from tests.gguf_files import tiny_gguf


@pytest.fixture(scope="module")
def gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_gguf(tmp_path_factory.mktemp("gguf") / "tiny.gguf", layers=1)


def test_it_says_what_another_reader_finds(gguf: Path) -> None:
    header, other = read_gguf_header(gguf), GGUFReader(gguf)
    found = {name: (tensor.type, tensor.numbers) for name, tensor in header.tensors.items()}
    assert found == {tensor.name: (tensor.tensor_type.name, tensor.n_elements) for tensor in other.tensors}
    assert header.bytes == min(tensor.data_offset for tensor in other.tensors)
    assert header.types == ["Q8_0", "Q4_0", "F32"]  # by how many numbers they store
    assert header.values["general.architecture"] == "llama" and header.values["llama.block_count"] == 1
    assert header.values["tokenizer.ggml.tokens"] == 400  # of arrays the length
    assert header.values["llama.rope.freq_base"] == 10_000.0


def test_a_file_that_ends_anywhere_is_refused(gguf: Path, tmp_path: Path) -> None:
    content, begin = gguf.read_bytes(), read_gguf_header(gguf).bytes
    cut = tmp_path / "cut.gguf"
    for size in (5, 23, 24, 60, begin // 2, begin - 32, begin, len(content) - 1):
        cut.write_bytes(content[:size])
        with pytest.raises(ModelError, match=r"cut\.gguf is no GGUF file that can be read: it ends .*; fetch it again"):
            read_gguf_header(cut)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"GGML" + bytes(60), "it does not begin with the letters GGUF"),
        (b"GGUF" + struct.pack("<IQQ", 1, 0, 0), "its version is 1, and 2 and 3 are known"),
        (b"GGUF" + struct.pack("<IQQ", 3, 1 << 60, 0), "it ends in its header"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 1 << 60), "it ends in its header"),
        # an array of 2^60 bytes, which gguf's own reader counts through
        (b"GGUF" + struct.pack("<IQQQ1sIIQ", 3, 0, 1, 1, b"a", 9, 0, 1 << 60) + bytes(64), "it ends in its header"),
        (b"GGUF" + struct.pack("<IQQQ1sIIQ", 3, 0, 1, 1, b"a", 9, 8, 1 << 60) + bytes(64), "it ends in its header"),
        (b"GGUF" + struct.pack("<IQQQ1sIIQ", 3, 0, 1, 1, b"a", 9, 9, 1) + bytes(64), "an array of arrays"),
        (b"GGUF" + struct.pack("<IQQQ1sI", 3, 0, 1, 1, b"a", 99) + bytes(64), "a value of the unknown type 99"),
        (b"GGUF" + struct.pack("<IQQQ2sIB", 3, 0, 1, 2, b"\xff\xff", 0, 0), "a text in it is not UTF-8"),
        (b"GGUF" + struct.pack("<IQQQ1sIBQ1sIB", 3, 0, 2, 1, b"a", 0, 0, 1, b"a", 0, 0), "it has the key 'a' twice"),
        (
            b"GGUF" + struct.pack("<IQQQ1sI", 3, 1, 0, 1, b"a", 1 << 30) + bytes(64),
            "a tensor has 1073741824 dimensions",
        ),
    ],
)
def test_damage_and_absurd_counts(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "bad.gguf").write_bytes(content)
    started = time.monotonic()
    with pytest.raises(ModelError, match=message):
        read_gguf_header(tmp_path / "bad.gguf")
    assert time.monotonic() - started < 1


def test_what_is_no_whole_model(gguf: Path, tmp_path: Path) -> None:
    edit = tiny_gguf(tmp_path / "part.gguf", edit=lambda writer: writer.add_uint16("split.count", 3), layers=1)
    with pytest.raises(ModelError, match=r"is one of 3 parts of a model: join them"):
        read_gguf_header(edit)
    content = bytearray(gguf.read_bytes())
    # of the first tensor: its name, two dimensions, its type
    place = content.index(b"token_embd.weight") + len("token_embd.weight") + 4 + 16
    assert struct.unpack_from("<I", content, place) == (Type.Q8_0,)
    struct.pack_into("<I", content, place, 4_000)
    (tmp_path / "new.gguf").write_bytes(content)
    with pytest.raises(
        ModelError, match=r"ggml's type 4000, which the package gguf here does not know: pip install -U"
    ):
        read_gguf_header(tmp_path / "new.gguf")
