"""A sample's text with marks in it."""

import numpy as np

from jobs.report.marks import mark
from schemas.cache.samples import CachedSample

NONE = np.zeros((0, 2), np.int32)
SAMPLE = CachedSample("s", "ask: [b]", 4, False, NONE[:, 0], NONE, NONE, NONE, NONE)


def test_marks_stand_at_their_places_and_the_prompt_is_dim() -> None:
    found = mark(SAMPLE, {0: "<", 4: "|", 8: ">"})
    assert found.plain == "<ask:| [b]>"
    dim = [found.plain[span.start : span.end] for span in found.spans if span.style == "dim"]
    assert "".join(dim) == "ask:"
