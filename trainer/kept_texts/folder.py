"""The folder of what is kept for one (tokenizer, settings), which any number of runs read and write at once.

FOLDER/
  identity.json     what the tokens follow from; for people, and for whoever wants to clear up
  0a1b…ef.arrow     a segment, named by what it hashes to; see `trainer.kept_texts.segment`
  .writer           the lock of the run that publishes a segment, for some milliseconds

A segment appears whole and never changes. Under the lock a writer first looks for the segments of others and leaves out
what they hold, so no text is kept twice, however many runs are at work. Nobody waits for the lock: a run that finds it
taken goes on with its texts in memory and tries again later.
"""

import json
import logging
import shutil
from bisect import bisect_right
from pathlib import Path
from typing import Any

from schemas.errors import CacheError, ResourceError
from schemas.storage.atomic import remove_temporaries, write_text
from schemas.storage.copies import hold_if_copied
from schemas.storage.fingerprint import fingerprint
from schemas.storage.lock import acquire
from trainer.alignment.student_text import StudentText
from trainer.kept_texts.identity import Digest
from trainer.kept_texts.index import Index
from trainer.kept_texts.segment import SUFFIX, DamagedSegment, Segment, Texts, write_segment

LOCK = ".writer"
IDENTITY = "identity.json"
MOST_SEGMENTS = 8192  # of 8 MiB: 64 GiB. Each is one memory map, which are scarce
RESERVE_BYTES = 1 << 30  # left free on the disk: for checkpoints, and for others

logger = logging.getLogger(__name__)


class Busy(ResourceError):
    """Another run is publishing."""


class KeptFolder:
    """What is kept in one folder, of which there may be nothing yet. Threads must take turns."""

    def __init__(self, folder: Path, identity: dict[str, Any]):
        """`folder` holds such folders for any number of identities. Reads every byte that is kept of this one."""
        self.identity = {"format": "stillroom-student-texts", "version": 1, **identity}
        self.fingerprint = fingerprint(self.identity)
        self.path = folder / self.fingerprint[:16]
        self._segments = list[Segment]()
        self._starts = list[int]()  # number of each one's first row, over all
        self._seen, self._damaged = set[str](), set[str]()
        self._index, self._rows = Index(), 0
        self.look()

    def __len__(self) -> int:
        return len(self._index)

    def find(self, digest: Digest) -> StudentText | None:
        """The text of a sample, if it was kept by the time of the last look."""
        place = self._index.find(digest[1])
        if place is None:
            return None
        at = bisect_right(self._starts, place) - 1
        return self._segments[at].text(place - self._starts[at], digest[0])

    def look(self) -> None:
        """Take in the segments that have appeared since. A damaged one is left out, and said so."""
        try:
            names = sorted(path.name for path in self.path.glob(f"*{SUFFIX}"))
        except OSError:  # it cannot be read: nothing is kept for this run
            names = []
        for name in names:
            if name not in self._seen:
                self._seen.add(name)
                self._take_in(self.path / name)

    def _take_in(self, path: Path) -> None:
        try:
            segment = Segment(path, self.fingerprint)
        except CacheError as error:
            if not path.exists():  # somebody has removed it in this moment
                return
            logger.warning("%s; its texts are tokenized anew", error)
            if isinstance(error, DamagedSegment):
                self._damaged.add(path.name)
            return
        self._segments.append(segment)
        self._starts.append(self._rows)
        self._index.add(segment.keys, self._rows)
        self._rows += len(segment.keys)
        hold_if_copied(path)  # of a cache under a URL: it counts, and goes when there is no room

    def publish(self, texts: Texts) -> None:
        """Keep what of `texts` nobody else has kept.

        Raises Busy while another run does; OSError if nothing can be written here, ResourceError if there is no room.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        lock = acquire(self.path / LOCK, Busy)
        try:
            remove_temporaries(self.path)
            self._clear_up()
            self.look()
            fresh = {digest: text for digest, text in texts.items() if self._index.find(digest[1]) is None}
            if fresh:
                self._require_room()
                if not (self.path / IDENTITY).exists():
                    write_text(self.path / IDENTITY, json.dumps(self.identity, indent=1, ensure_ascii=False) + "\n")
                write_segment(self.path, self.fingerprint, fresh)
                self.look()
        finally:
            lock.release()

    def _clear_up(self) -> None:
        """Remove damaged segments: what they held is made anew, and the next run need not be told. Another run may have
        put a sound one in the place of one, under the same name."""
        for name in self._damaged:
            try:
                Segment(self.path / name, self.fingerprint)
            except DamagedSegment:
                (self.path / name).unlink(missing_ok=True)
            except CacheError:  # it is gone
                continue
        self._seen -= self._damaged
        self._damaged.clear()

    def _require_room(self) -> None:
        if len(self._segments) >= MOST_SEGMENTS:
            raise ResourceError(f"{self.path} holds {MOST_SEGMENTS:,} files, which is the most")
        free = shutil.disk_usage(self.path).free
        if free < RESERVE_BYTES:
            raise ResourceError(f"only {free >> 20:,} MiB are free on the disk of {self.path}")
