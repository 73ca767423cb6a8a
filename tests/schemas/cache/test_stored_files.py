"""Files as they are: mapped by their paths below a folder."""

from pathlib import Path

import numpy as np
import pytest

from schemas.cache.stored_files import TrustedFiles
from schemas.errors import CacheError


def test_files_are_mapped_as_they_are(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    np.arange(6, dtype="<i2").tofile(tmp_path / "a/b")
    files = TrustedFiles(tmp_path)
    files.require("whatever")
    assert files.folder == tmp_path
    np.testing.assert_array_equal(files.map("a/b", np.dtype("<i2"), (2, 3)), np.arange(6).reshape(2, 3))
    with pytest.raises(CacheError, match=r"a/b has 12 bytes instead of 10"):
        files.map("a/b", np.dtype("<i2"), (5,))
