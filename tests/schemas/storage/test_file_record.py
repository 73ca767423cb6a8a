"""Size and checksum of files, recorded and compared."""

from pathlib import Path

import pytest

from schemas.errors import CacheError, RunError
from schemas.storage.file_record import check_file, check_size, describe_file


def test_a_file_is_compared_with_what_is_recorded_of_it(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"abc")
    file = describe_file(path)
    check_file(path, file, "way out")
    path.write_bytes(b"abd")
    check_size(path, file, "way out")
    with pytest.raises(RunError, match=r"a does not have its checksum; way out$"):
        check_file(path, file, "way out", RunError)
    path.write_bytes(b"ab")
    for check in (check_size, check_file):
        with pytest.raises(CacheError, match=r"a has 2 bytes instead of 3; way out$"):
            check(path, file, "way out")
    path.unlink()
    with pytest.raises(CacheError, match=r"a is missing; way out$"):
        check_file(path, file, "way out")
