"""A sample's text with marks in it."""

from dataclasses import replace

import numpy as np

from jobs.report.marks import mark
from schemas.cache.samples import CachedSample

NONE = np.zeros((0, 2), np.int32)
SAMPLE = CachedSample("s", "ask: [b]", np.array([[4, 8]], np.int32), False, NONE[:, 0], NONE, NONE, NONE, NONE, NONE)


def test_marks_stand_at_their_places_and_what_is_not_learnt_is_dim() -> None:
    found = mark(SAMPLE, {0: "<", 4: "|", 8: ">"})
    assert found.plain == "<ask:| [b]>"
    dim = [found.plain[span.start : span.end] for span in found.spans if span.style == "dim"]
    assert "".join(dim) == "ask:"
    two = replace(SAMPLE, targets=np.array([[0, 2], [5, 7]], np.int32))
    found = mark(two, {})
    dim = [found.plain[span.start : span.end] for span in found.spans if span.style == "dim"]
    assert "".join(dim) == "k: ]"
