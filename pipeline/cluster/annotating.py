"""Annotation as a Ray task. Its processes import this module, and with it neither torch nor a teacher."""

import ray

from pipeline.corpus.sample import Sample
from pipeline.work.annotate import AnnotatedUnit, annotate_unit
from pipeline.work.job import Job


@ray.remote(num_returns=2, max_retries=0)
def annotate(job: Job, number: int, samples: list[Sample]) -> tuple[int, AnnotatedUnit]:
    """The number comes back apart from the unit, so that the driver learns of the end without fetching the unit."""
    return number, annotate_unit(job, number, samples)
