"""The objective of a run bound to its student and its caches, and the proof that the two can be aligned."""

from collections.abc import Sequence
from typing import Any

from schemas.cache.arrays import keeps_tokens
from schemas.cache.reader import Cache
from schemas.configs.losses import CrossEntropyConfig, LossConfig, Texts
from schemas.configs.training import TrainingConfig
from schemas.models.logits import LogitTransform
from schemas.models.teacher_head import load_teacher_embedding, load_teacher_head
from schemas.models.teacher_tokenizer import load_teacher_tokenizer
from schemas.models.tokenizer_rules import same_tokenizer
from trainer.alignment.quality import MEASURED, measure_alignment, require_alignment
from trainer.alignment.vocabulary import SharedVocabulary, share_vocabulary
from trainer.data.batch import Needs
from trainer.data.loader import TextEncoder
from trainer.objectives.loss import Pair
from trainer.objectives.objective import Objective, build_objective
from trainer.runs.caches import Caches
from trainer.student.head_check import check_logits


def bind_objectives(config: TrainingConfig, caches: Caches, model: Any, tokenizer: Any) -> dict[Texts, Objective]:
    """The losses over each cache's texts. New projections draw from torch's global generator.

    Raises RunError: a cache lacks what a loss needs, or the student's logits are not what its head says.
    """
    objectives = {}
    for texts, cache in caches.items():
        losses = [loss for loss in config.objective if loss.texts == texts]
        context = loss_context(cache, model, tokenizer, losses)
        objectives[texts] = build_objective(losses, context)
        if objectives[texts].needs.modules:
            check_logits(model, context.student_logits)
    return objectives


def prove_alignment(
    config: TrainingConfig, caches: Caches, objectives: dict[Texts, Objective], encoder: TextEncoder
) -> dict[str, float]:
    """How well the student's tokens are aligned with each cache's, as metrics; nothing for an encoder.

    Raises RunError below `min_coverage` or `min_agreement`, where a loss reads the teacher.
    """
    found: dict[str, float] = {}
    for texts, cache in caches.items():
        if config.student.kind != "causal" or not keeps_tokens(cache.manifest.arrays):
            continue
        needs = objectives[texts].needs
        quality = measure_alignment(cache, encoder, MEASURED, config.seed, needs.spans)
        if needs != Needs():  # cross-entropy alone asks nothing of the teacher
            require_alignment(quality, cache.path, config.min_coverage, config.min_agreement)
        prefix = "" if texts == "corpus" else f"{texts}/"
        found |= {f"{prefix}{name}": value for name, value in quality.metrics().items()}
    return found


def loss_context(cache: Cache, model: Any, tokenizer: Any, losses: Sequence[LossConfig]) -> Pair:
    """What the losses may know of teacher and student. The teacher's head is read only if one of them asks for more
    than cross-entropy does."""
    size = model.config.get_text_config()
    head, embedding, shared, same, tokenizers = None, None, SharedVocabulary.empty(), False, None
    if any(not isinstance(loss, CrossEntropyConfig) for loss in losses):
        teacher_tokenizer = load_teacher_tokenizer(cache.path, cache.manifest)
        head = load_teacher_head(cache.path, cache.manifest)
        embedding = load_teacher_embedding(cache.path, cache.manifest)
        shared = share_vocabulary(tokenizer, teacher_tokenizer)
        same = same_tokenizer(tokenizer, teacher_tokenizer)
        tokenizers = (tokenizer, teacher_tokenizer)
    layers, width = size.num_hidden_layers, size.hidden_size
    logits = LogitTransform.of(size)
    return Pair(cache.manifest, head, layers, width, shared, same, embedding, tokenizers, logits)
