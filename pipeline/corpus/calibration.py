"""Which samples the codecs of a cache are calibrated on: a part of the corpus that follows from its content alone."""

import heapq
import math
from dataclasses import dataclass
from itertools import accumulate

from pipeline.corpus.sample import Sample


@dataclass(frozen=True)
class CalibrationSize:
    """How many tokens codecs are calibrated on: a share of the corpus, because the teacher runs over them once more,
    but so many that something can be learnt, and no more than help."""

    share: float
    least: int
    most: int

    def tokens(self, corpus: int) -> int:
        """Of a corpus of so many tokens."""
        return min(self.most, max(self.least, math.ceil(self.share * corpus)))


class CalibrationSamples:
    """The samples of the smallest digests, as many as `size` says: as random as a hash, in one pass.

    Memory is that of the most that may be chosen. The order in which samples are offered does not matter.
    """

    def __init__(self, size: CalibrationSize):
        self._size, self._offered, self._held = size, 0, 0
        self._heap: list[tuple[int, str, int, Sample]] = []  # the largest digest on top

    def offer(self, sample: Sample, digest: bytes, tokens: int) -> None:
        """Keep `sample`, of about so many tokens, if its digest is among the smallest."""
        self._offered += tokens
        largest_first = -int.from_bytes(digest, "big")
        if self._held >= self._size.most and largest_first <= self._heap[0][0]:
            return
        heapq.heappush(self._heap, (largest_first, sample.id, tokens, sample))
        self._held += tokens
        while self._held - self._heap[0][2] >= self._size.most:
            self._held -= heapq.heappop(self._heap)[2]

    @property
    def samples(self) -> tuple[Sample, ...]:
        """Those chosen, by their digests: the first that have the tokens that all which were offered call for."""
        wanted, kept = self._size.tokens(self._offered), sorted(self._heap, key=lambda entry: -entry[0])
        before = accumulate((tokens for _, _, tokens, _ in kept), initial=0)
        return tuple(sample for (*_, sample), held in zip(kept, before, strict=False) if held < wanted)
