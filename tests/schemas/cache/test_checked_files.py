"""Which files were checked: one flag for each, the same for a process and its forks."""

import os

from schemas.cache.checked_files import CheckedFiles
from tests.shards import manifest

FILES = [(unit, name) for unit in range(3) for name in ("samples.arrow", "hidden/2", "mass/2")]


def test_every_file_of_every_shard_has_a_flag_of_its_own() -> None:
    checked = CheckedFiles(manifest(3))
    assert not any(file in checked for file in FILES)
    for number, file in enumerate(FILES):
        checked.add(file)
        assert [other in checked for other in FILES] == [place <= number for place in range(len(FILES))]


def test_what_a_fork_checked_its_parent_knows() -> None:
    checked = CheckedFiles(manifest(3))
    child = os.fork()
    if child == 0:
        checked.add((2, "mass/2"))
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert [file for file in FILES if file in checked] == [(2, "mass/2")]
