"""Which files and blocks were checked: one flag for each, the same for a process and its forks."""

import os

from schemas.cache.checked_files import CheckedFiles
from tests.shards import manifest

NAMES = ("samples.arrow", "states.zarr/hidden/2/c/0/0", "states.zarr/mass/2/c/0")
FILES = [(unit, name) for unit in range(3) for name in NAMES]


def test_every_file_of_every_shard_has_a_flag_of_its_own() -> None:
    checked = CheckedFiles(manifest(3))
    assert not any(file in checked for file in FILES)
    for number, file in enumerate(FILES):
        checked.add(file)
        assert [other in checked for other in FILES] == [place <= number for place in range(len(FILES))]


def test_what_a_fork_checked_its_parent_knows() -> None:
    checked = CheckedFiles(manifest(3), [2, 3, 4])
    child = os.fork()
    if child == 0:
        checked.add((2, NAMES[2]))
        checked.block_flags[8] = 1
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert [file for file in FILES if file in checked] == [(2, NAMES[2])]
    assert checked.block_flags[:] == b"\0" * 8 + b"\1"


def test_shards_have_flags_for_their_blocks_one_after_the_other() -> None:
    checked = CheckedFiles(manifest(3), [2, 0, 4])
    assert [checked.blocks(unit) for unit in range(3)] == [range(2), range(2, 2), range(2, 6)]
    assert CheckedFiles(manifest(3)).blocks(1) is None  # nobody counted them
    assert CheckedFiles(manifest(3), [0, 0, 0]).blocks(2) == range(0)
