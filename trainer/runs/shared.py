"""All that several runs in one process hold once: the read of each cache, and what it keeps of its teacher."""

from schemas.cache.readable import ReadableCache
from schemas.configs.losses.base import Texts
from trainer.data.shared import SharedRead
from trainer.objectives.context import CachedTeacher


class Shared:
    """Made when it is first asked for, by the texts of the cache."""

    def __init__(self, logit_bytes: int):
        """`logit_bytes`: how much of its teacher's logits is held with each batch."""
        self._logit_bytes = logit_bytes
        self._reads: dict[Texts, SharedRead] = {}
        self._teachers: dict[Texts, CachedTeacher] = {}

    def read(self, texts: Texts) -> SharedRead:
        """The batches of these texts."""
        return self._reads.setdefault(texts, SharedRead(self._logit_bytes))

    def teacher(self, texts: Texts, cache: ReadableCache) -> CachedTeacher:
        """The teacher of these texts; `cache` is the same for all runs."""
        return self._teachers.setdefault(texts, CachedTeacher(cache))
