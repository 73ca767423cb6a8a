"""Checksums of blocks: what is written is what other tools compute, of files of any length."""

import hashlib
from pathlib import Path

import pytest
import xxhash
from pydantic import ValidationError

from schemas.errors import CacheError
from schemas.storage.blocks import BLOCK_BYTES, BlockedFile, check_blocks, describe_blocks, hash_block, list_blocks
from schemas.storage.file_record import FileRecord


def test_the_checksum_is_xxh3_of_64_bits() -> None:
    """As `xxhsum -H3` prints it: https://github.com/Cyan4973/xxHash, the hash of no bytes and of three."""
    assert hash_block(memoryview(b"")) == "2d06800538d394c2"
    assert hash_block(memoryview(b"abc")) == "78af5f94892f3950"


@pytest.mark.parametrize("size", [0, 1, BLOCK_BYTES - 1, BLOCK_BYTES, BLOCK_BYTES + 1, 3 * BLOCK_BYTES])
def test_a_file_is_cut_into_blocks(tmp_path: Path, size: int) -> None:
    content = bytes(range(251)) * (size // 251 + 1)
    content = content[:size]
    (tmp_path / "a").write_bytes(content)
    pieces = [content[start : start + BLOCK_BYTES] for start in range(0, size, BLOCK_BYTES)]
    found = describe_blocks(tmp_path / "a")
    assert found.bytes == size and found.sha256 == hashlib.sha256(content).hexdigest()
    assert found.blocks == "".join(xxhash.xxh3_64(piece).hexdigest() for piece in pieces)
    assert found.block_count == len(pieces)


@pytest.mark.parametrize("place", [0, BLOCK_BYTES - 1, BLOCK_BYTES, BLOCK_BYTES + 6])
def test_a_wrong_bit_is_found_in_any_block(tmp_path: Path, place: int) -> None:
    content = bytearray(BLOCK_BYTES + 7)
    (tmp_path / "a").write_bytes(content)
    file = describe_blocks(tmp_path / "a")
    for whole in (False, True):
        check_blocks(tmp_path / "a", file, "way out", whole)
    content[place] ^= 4
    (tmp_path / "a").write_bytes(content)
    for record in (file, file.model_copy(update={"blocks": None})):  # the latter as of format 1
        for whole in (False, True):
            with pytest.raises(CacheError, match=r"a does not have its checksum; way out$"):
                check_blocks(tmp_path / "a", record, "way out", whole)
    (tmp_path / "a").write_bytes(content[:-1])
    with pytest.raises(CacheError, match=r"a has 4194310 bytes instead of 4194311; way out$"):
        check_blocks(tmp_path / "a", file, "way out")


def test_the_whole_file_has_a_checksum_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    file = describe_blocks(tmp_path / "a").model_copy(update={"sha256": "0" * 64})
    check_blocks(tmp_path / "a", file, "way out")
    with pytest.raises(CacheError, match=r"a does not have its checksum; way out$"):
        check_blocks(tmp_path / "a", file, "way out", whole=True)


def test_files_below_a_folder_are_named_by_their_paths(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    for name in ("b/z", "b/a", "c"):
        (tmp_path / name).write_text(name)
    found = list_blocks(tmp_path, {"c"})
    assert list(found) == ["b/a", "b/z"] and found["b/a"] == describe_blocks(tmp_path / "b/a")


@pytest.mark.parametrize("blocks", ["", "0" * 15, "0" * 32, "g" * 16, "0" * 15 + "A"])
def test_as_many_checksums_as_blocks(blocks: str) -> None:
    with pytest.raises(ValidationError):
        BlockedFile(bytes=5, sha256="0" * 64, blocks=blocks)
    assert BlockedFile(bytes=5, sha256="0" * 64, blocks="0" * 16).block_count == 1


def test_a_file_of_format_1_has_none() -> None:
    assert BlockedFile.model_validate({"bytes": 5, "sha256": "0" * 64}).blocks is None
    assert "blocks" not in FileRecord(bytes=5, sha256="0" * 64).model_dump()
