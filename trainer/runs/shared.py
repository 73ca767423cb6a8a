"""All that several runs in one process hold once: the read of each cache, and what it keeps of its teacher."""

from schemas.cache.readable import ReadableCache
from trainer.data.shared import SharedRead
from trainer.objectives.context import CachedTeacher


class Shared:
    """Made when it is first asked for, by the name of the source."""

    def __init__(self, logit_bytes: int):
        """`logit_bytes`: how much of its teacher's logits is held with each batch."""
        self._logit_bytes = logit_bytes
        self._reads: dict[str, SharedRead] = {}
        self._teachers: dict[str, CachedTeacher] = {}

    def read(self, source: str) -> SharedRead:
        """The batches of this source."""
        return self._reads.setdefault(source, SharedRead(self._logit_bytes))

    def teacher(self, source: str, cache: ReadableCache) -> CachedTeacher:
        """The teacher of this source; `cache` is the same for all runs."""
        return self._teachers.setdefault(source, CachedTeacher(cache))
