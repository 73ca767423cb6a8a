"""The words for the way out of damage, of which `tests/jobs/test_repair.py` shows that it is one."""

from pathlib import Path

from schemas.cache.ways_out import redo, repair, without_way_out

SAID = "run `stillroom repair /c`: it drops damaged shards that can be made again, and says how"


def test_whatever_of_a_cache_is_damaged_has_one_way_out_which_can_be_taken_off() -> None:
    shard = Path("/c/shards/00007")
    assert redo(shard) == redo(shard / "samples.arrow") == redo(Path("/c/added/1/shards/00003")) == SAID
    assert without_way_out(f"{shard} is damaged; {SAID}", shard / "shard.json") == f"{shard} is damaged"
    assert without_way_out("cannot be reached; try again", shard) == "cannot be reached; try again"


def test_a_shell_takes_the_command_as_it_is_written() -> None:
    assert repair(Path("/data/my caches/c")) == "`stillroom repair '/data/my caches/c'`"
