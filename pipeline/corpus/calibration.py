"""Which samples the codecs of a cache are calibrated on: a part of the corpus that follows from its content alone."""

import heapq

from pipeline.corpus.sample import Sample


class CalibrationSamples:
    """The samples of the smallest digests, about `tokens` tokens of them: as random as a hash, in one pass.

    Memory is theirs. The order in which samples are offered does not matter.
    """

    def __init__(self, tokens: int):
        self._wanted, self._held = tokens, 0
        self._heap: list[tuple[int, str, int, Sample]] = []  # the largest digest on top

    def offer(self, sample: Sample, digest: bytes, tokens: int) -> None:
        """Keep `sample`, of about so many tokens, if its digest is among the smallest."""
        if not self._wanted:
            return
        largest_first = -int.from_bytes(digest, "big")
        if self._held >= self._wanted and largest_first <= self._heap[0][0]:
            return
        heapq.heappush(self._heap, (largest_first, sample.id, tokens, sample))
        self._held += tokens
        while self._held - self._heap[0][2] >= self._wanted:
            self._held -= heapq.heappop(self._heap)[2]

    @property
    def samples(self) -> tuple[Sample, ...]:
        """Those kept, by their digests."""
        return tuple(sample for *_, sample in sorted(self._heap, key=lambda entry: -entry[0]))
