"""A tokenizer of cached texts that looks first among those that it, or another run, has cut before.

A text that is kept takes some ten microseconds, where a tokenizer takes a quarter to a whole millisecond, and is the
same to the last byte. Its characters tie it to the teacher's tokens, in another chat template, too; what a loss asks of
that, such as its spans, follows in less than 0.1 ms and is not kept.
"""

import logging
import time
from collections.abc import Sequence
from threading import Lock

from schemas.cache.samples import CachedSample
from schemas.errors import StillroomError
from trainer.alignment.student_text import StudentText, TextTokenizer
from trainer.kept_texts.folder import Busy, KeptFolder
from trainer.kept_texts.identity import Digest, digest_of
from trainer.kept_texts.segment import bytes_of

SEGMENT_BYTES = 8 << 20
MOST_WAITING = 4 * SEGMENT_BYTES  # that wait in memory, while others publish

logger = logging.getLogger(__name__)


class KeptTexts:
    """A `TextTokenizer`. Several threads may ask at once."""

    def __init__(self, tokenize: TextTokenizer, folder: KeptFolder, segment_bytes: int = SEGMENT_BYTES):
        """What `tokenize` makes is published in segments of about `segment_bytes`."""
        self._tokenize, self._folder, self._segment_bytes = tokenize, folder, segment_bytes
        self._waiting: dict[Digest, StudentText] = {}
        self._bytes, self._enough = 0, segment_bytes  # of what waits; and of what is tried to be published
        self._keeps = True
        self._lock = Lock()  # of all above

    def __call__(self, samples: Sequence[CachedSample]) -> list[StudentText]:
        """The student's tokens of each text, made only of those that are not kept. Raises what the tokenizer does."""
        digests = [digest_of(sample) for sample in samples]
        with self._lock:
            found = {digest: text for digest in digests if (text := self._find(digest)) is not None}
        missing = {d: sample for d, sample in zip(digests, samples, strict=True) if d not in found}
        if missing:
            made = dict(zip(missing, self._tokenize(list(missing.values())), strict=True))
            found |= made
            self._keep(made)
        return [found[digest] for digest in digests]

    def publish(self) -> None:
        """Keep what still waits, now rather than later: at the end of a run. Waits a second at most for others."""
        for _ in range(20):
            with self._lock:
                self._publish()
                if not self._waiting:
                    return
            time.sleep(0.05)

    def _find(self, digest: Digest) -> StudentText | None:
        return self._waiting.get(digest) or self._folder.find(digest)

    def _keep(self, made: dict[Digest, StudentText]) -> None:
        with self._lock:
            if not self._keeps:
                return
            self._waiting |= made
            self._bytes += sum(map(bytes_of, made.values()))
            if self._bytes >= self._enough:
                self._publish()

    def _publish(self) -> None:
        if not self._keeps or not self._waiting:
            return
        try:
            self._folder.publish(self._waiting)
        except Busy:
            self._enough = self._bytes + self._segment_bytes // 4
            if self._bytes < MOST_WAITING:
                return
        except (OSError, StillroomError) as error:
            self._keeps = False
            reason = (error.strerror if isinstance(error, OSError) else None) or error
            logger.warning(
                "the student's tokens cannot be kept in %s (%s): every epoch makes them anew. Give another place by "
                "`tokens_folder`, or set keep_tokens to false",
                self._folder.path,
                reason,
            )
        self._waiting, self._bytes, self._enough = {}, 0, self._segment_bytes
