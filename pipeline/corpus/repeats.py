"""Samples that a corpus has had before, to the last character."""

from pipeline.corpus.sample import Sample, hash_sample


class Repeats:
    """Tells in one pass which samples repeat an earlier one, id and content, at about 100 bytes for each that does not.

    It keeps digests of 128 bits: no two samples share one by chance.
    """

    def __init__(self) -> None:
        self.found = 0
        self._seen = set[bytes]()

    def holds(self, sample: Sample) -> bool:
        """Returns whether it was asked for `sample` before, and counts it then."""
        digest = hash_sample(sample)[0][:16]
        if digest in self._seen:
            self.found += 1
            return True
        self._seen.add(digest)
        return False
