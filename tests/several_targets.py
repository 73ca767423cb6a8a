"""Real caches of texts with several targets, as conversations have them: the pipeline's own steps, over ranges of
characters that are put in here between annotating and running the teacher."""

from dataclasses import replace

import numpy as np

from pipeline.corpus.sample import AnnotatedSample, Sample
from pipeline.work.annotate import AnnotatedUnit, annotate_unit
from pipeline.work.job import Job
from schemas.cache.token_rows import every_row, target_rows

# Shares of a text at which ranges begin and end, by the sample's number: anywhere, in words and tokens too; two that
# touch; one too short to hold the end of a token, as a rule; and a text that goes on behind its last target.
SHARES = [(0.3, 1.0), (0.1, 0.35, 0.6, 1.0), (0.05, 0.3, 0.3, 0.55, 0.7, 1.0), (0.2, 0.4, 0.5, 0.51, 0.6, 0.9)]


def several_targets(text: str, number: int) -> np.ndarray:
    """[n, 2] int32: one to three ranges of the text, disjoint and ascending."""
    places = [round(share * len(text)) for share in SHARES[number % len(SHARES)]]
    ranges = zip(places[::2], places[1::2], strict=True)
    return np.array([(start, end) for start, end in ranges if start < end], np.int32).reshape(-1, 2)


def annotate(job: Job, number: int, samples: list[Sample]) -> AnnotatedUnit:
    """A unit whose samples, named s0, s1 and so on, have the targets of `several_targets`."""
    unit = annotate_unit(job, number, samples)
    return replace(unit, samples=[_retargeted(sample, job.manifest.rows) for sample in unit.samples])


def _retargeted(sample: AnnotatedSample, rows: str) -> AnnotatedSample:
    targets, offsets = several_targets(sample.text, int(sample.id[1:])), sample.token_offsets
    kept = target_rows(offsets, targets) if rows == "targets" else every_row(len(offsets))
    return replace(sample, targets=targets, token_rows=kept)
