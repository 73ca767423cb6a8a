"""The objective of a run bound to its student and its caches, and the proof that the two can be aligned."""

import logging
from typing import Any

from schemas.cache.arrays import keeps_tokens
from schemas.cache.readable import ReadableCache
from schemas.configs.training import TrainingConfig
from trainer.alignment.quality import MEASURED, describe_begin_twice, drawn, measure_alignment, require_alignment
from trainer.alignment.student_text import TextTokenizer
from trainer.alignment.token_pairs import measure_pairs
from trainer.data.tied_tokens import SameTokenPositions, Spans
from trainer.objectives.context import CachedContext
from trainer.objectives.objective import Objective, build_objective
from trainer.runs.caches import Caches, texts_of
from trainer.runs.shared import Shared
from trainer.student.head_check import check_logits
from trainer.student.states import StudentUnembedding

logger = logging.getLogger(__name__)


def bind_objectives(
    config: TrainingConfig, caches: Caches, model: Any, tokenizer: Any, shared: Shared | None = None
) -> dict[str, Objective]:
    """The losses over each source. New projections draw from torch's global generator.

    Raises RunError: a cache lacks what a loss needs, or the student's logits are not what its head says.
    """
    objectives = {}
    for source, cache in caches.items():
        losses = [loss for loss in config.objective if loss.texts == texts_of(source)]
        context = CachedContext(cache, model, tokenizer, shared.teacher(source, cache) if shared else None)
        objectives[source] = build_objective(losses, context)
        if StudentUnembedding() in objectives[source].of_student:
            check_logits(model, context.student.logits)
    return objectives


def prove_alignment(
    config: TrainingConfig, caches: Caches, objectives: dict[str, Objective], text_tokenizer: TextTokenizer
) -> dict[str, float]:
    """How well the student's tokens are aligned with each cache's, as metrics; nothing for an encoder.

    Warns of samples that begin twice in the student's tokens. Raises RunError below `min_coverage` or `min_agreement`,
    where a loss reads the teacher.
    """
    found: dict[str, float] = {}
    for source, cache in caches.items():
        if config.student.kind != "causal" or not keeps_tokens(cache.manifest.arrays):
            continue
        requests = objectives[source].of_batch
        spans = [request for request in requests if isinstance(request, Spans)]
        quality = measure_alignment(cache, text_tokenizer, MEASURED, config.seed, spans)
        if quality.begin_twice:
            logger.warning("%s: %s", cache, describe_begin_twice(quality.begin_twice, quality.samples))
        if requests:  # cross-entropy alone asks nothing of the teacher
            require_alignment(quality, cache, config.min_coverage, config.min_agreement)
        figures = quality.metrics()
        if SameTokenPositions() in requests and cache.manifest.conversations is not None:
            figures |= _measure_pairs(cache, text_tokenizer, config.seed)
        prefix = "" if source == "corpus" else f"{source}/"
        found |= {f"{prefix}{name}": value for name, value in figures.items()}
    return found


def _measure_pairs(cache: ReadableCache, text_tokenizer: TextTokenizer, seed: int) -> dict[str, float]:
    """The share of targets that are paired token by token, said if student and teacher read conversations otherwise."""
    pairs = measure_pairs(drawn(cache, text_tokenizer, MEASURED, seed))
    if pairs.paired < pairs.targets:
        logger.warning("%s: %s", cache, pairs)
    return {"align/pairs": pairs.share}
