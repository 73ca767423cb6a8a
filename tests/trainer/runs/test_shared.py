"""Runs that share have one read and one teacher of each cache, whose head is loaded once."""

from pathlib import Path

from schemas.cache.reader import Cache
from tests.caches import encoded_cache
from trainer.runs.shared import Shared


def test_one_for_each_cache(tmp_path: Path) -> None:
    encoded_cache(tmp_path)
    shared, cache = Shared(7), Cache(tmp_path / "cache")
    assert shared.read("corpus") is shared.read("corpus") is not shared.read("student")
    assert shared.read("corpus").most_bytes == 7
    teacher = shared.teacher("corpus", cache)
    assert teacher is shared.teacher("corpus", Cache(tmp_path / "cache")) is not shared.teacher("student", cache)
    assert teacher.final_head is not None and teacher.final_head is teacher.final_head is not teacher.head
