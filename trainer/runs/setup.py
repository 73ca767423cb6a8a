"""Setting a run up: stages that each take what the ones before gave, and return a value.

Student, losses and dropout draw from seeds of their own, so that every objective starts from the same student. The
random numbers are torch's global ones: `trainer.runs.train` gives the caller's back.
"""

import logging
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn

from schemas.configs.training import StudentConfig, TrainingConfig
from schemas.errors import ModelError, RunError
from schemas.models.teacher_head import load_teacher_embedding, warn_of_unproven
from trainer.alignment.student_conversation import ConversationReader
from trainer.alignment.student_text import StudentTokenizer, TextTokenizer
from trainer.data.batch import Batch
from trainer.data.loader import BatchBuilder, batches
from trainer.data.sampler import BatchOrder
from trainer.kept_texts.kept_texts import KeptTexts
from trainer.objectives.objective import Objective
from trainer.optimisation.division import Division
from trainer.optimisation.loop import Loop, Source
from trainer.optimisation.masters import hold_in_bfloat16
from trainer.optimisation.optimizer import make_optimizer
from trainer.optimisation.random_state import seed_of_rank
from trainer.optimisation.ranks import ALONE, Ranks
from trainer.optimisation.sharpness import Sharpness
from trainer.runs.binding import bind_objectives, prove_alignment
from trainer.runs.caches import Caches, weight_of
from trainer.runs.checkpoint import MODEL, Start, load_model, restore
from trainer.runs.earlier import require_same_meaning
from trainer.runs.inputs import Inputs
from trainer.runs.kept_tokens import keep_tokens
from trainer.runs.shared import Shared
from trainer.student.adapter import add_adapter, load_adapter
from trainer.student.compiled import compile_layers
from trainer.student.device import choose_device
from trainer.student.final_states import has_plain_head
from trainer.student.load import load_student, prepare
from trainer.student.packed_attention import enable_packing
from trainer.student.recompute import recompute_layers
from trainer.student.sentence_tokens import SentenceTexts
from trainer.student.teacher_pca import start_from_teacher

PACKED_FROM = 0.1  # of a batch: below, what attention costs more takes what the rest saves

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Training:
    """A run that is ready for step number `done`."""

    loop: Loop
    losses: nn.ModuleDict  # the objectives by their sources, whose parameters a checkpoint keeps
    inputs: Inputs
    alignment: dict[str, float]
    done: int
    kept: KeptTexts | None = None  # the student's tokens, if they are kept

    def close(self) -> None:
        """Give up the streams of batches, and keep the tokens that are not kept yet."""
        self.loop.close()
        if self.kept is not None:
            self.kept.publish()


def set_up(
    config: TrainingConfig,
    caches: Caches,
    start: Start,
    steps: int,
    inputs: Inputs,
    shared: Shared | None = None,
    ranks: Ranks = ALONE,
) -> Training:
    """A training of `steps` steps that goes on where `start` is, on one of `ranks`; runs may have `shared` things.

    Raises the StillroomError that fits.
    """
    require_same_meaning(config, start)
    device = choose_device(config.device)
    tokenizer = inputs.tokenizer
    text_tokenizer = make_text_tokenizer(config.student, tokenizer, inputs.conversations)
    kept = keep_tokens(config, caches["corpus"].path, inputs, text_tokenizer) if config.keep_tokens else None
    text_tokenizer = kept or text_tokenizer
    torch.manual_seed(config.seed)
    model = make_student(config.student, caches, tokenizer, start)
    if config.gradient_checkpointing:
        recompute_layers(model)
    torch.manual_seed(config.seed + 1)
    objectives = bind_objectives(config, caches, model, tokenizer, shared)
    alignment = prove_alignment(config, caches, objectives, text_tokenizer)
    if ranks.size > 1:
        require_shareable(objectives)
    model, losses = to_device(model, objectives, device, config.sharding == "none")
    packed_from = pack(config, model)
    if config.student.kind == "causal":
        has_plain_head(model)  # is proven while it is whole, in float32, and runs as it is written
    masters = hold(config, model)
    if config.compile:
        compile_layers(model, device)
    division = divide(config, model, device, ranks)
    optimizer, sharpness = make_optimizers(
        config, model, objectives, losses, start.record.skipped, division.masters if division else masters
    )
    torch.manual_seed(seed_of_rank(config.seed + 2, ranks.rank, start.record.step))
    if start.checkpoint is not None:
        restore(start.checkpoint, losses, optimizer, ranks.rank)
    first = start.record.step * config.accumulation
    sources = open_sources(config, caches, objectives, text_tokenizer, first, device, packed_from, shared, ranks)
    loop = Loop(config, model, sources, optimizer, device, steps, sharpness, start.record.empty, ranks, division)
    return Training(loop, losses, inputs, alignment, start.record.step, kept)


def require_shareable(objectives: Mapping[str, Objective]) -> None:
    """Raises RunError for a loss whose value over a batch is not the sum of those over the ranks' shares of it."""
    for loss in (loss for objective in objectives.values() for loss in objective.bound):
        if (term := loss.compares_samples()) is not None:
            raise RunError(
                f"{loss.name} compares the samples of a batch with each other ({term}), and each of several devices "
                "sees only its share of them: train it on one device, or leave that out"
            )


def make_text_tokenizer(
    config: StudentConfig, tokenizer: Any, conversations: ConversationReader | None = None
) -> TextTokenizer:
    """The tokenizer that turns cached texts into the student's tokens. Raises TokenizerError."""
    if config.kind == "encoder":
        return SentenceTexts(tokenizer, config.max_tokens)
    return StudentTokenizer(tokenizer, config.max_tokens, config.append_eos, conversations)


def make_student(config: StudentConfig, caches: Caches, tokenizer: Any, start: Start) -> Any:
    """The student of the checkpoint, or a new one whose random weights come from torch's global generator.

    Of an adapted one, a checkpoint holds the adapter alone, and its model is read anew.
    """
    if start.checkpoint is not None and config.adapter is None:
        return load_model(start.checkpoint, config.trust_remote_code)
    model = load_student(config, tokenizer)
    if config.adapter is not None:
        add_adapter(model, config)
        if start.checkpoint is not None:
            load_adapter(model, start.checkpoint / MODEL)
    if config.embeddings == "teacher_pca":
        corpus = caches["corpus"]
        warn_of_unproven(corpus.path)
        start_from_teacher(model, load_teacher_embedding(corpus.path, corpus.manifest))
    return model


def divide(config: TrainingConfig, model: Any, device: torch.device, ranks: Ranks) -> Division | None:
    """The student in shares on the ranks' devices, if it is to be divided. Raises RunError where it cannot be."""
    if config.sharding == "none":
        return None
    if ranks.size == 1:
        raise RunError("sharding: full divides the student among devices, and this is one: give `devices`, or torchrun")
    if config.batch_size < ranks.size:
        raise RunError(
            f"sharding: full needs every device in every forward pass, and batch_size {config.batch_size} has no "
            f"sample for some of {ranks.size}; raise it, and lower accumulation"
        )
    rounded = config.student.dtype == "bfloat16" and config.student.adapter is None
    return Division(model, device, ranks.size, torch.bfloat16 if rounded else None)


def to_device(
    model: Any, objectives: Mapping[str, Objective], device: torch.device, whole: bool = True
) -> tuple[Any, nn.ModuleDict]:
    """Student and losses where they are trained; the student reports what the losses read of it. One that is not to be
    there `whole` stays where it is."""
    losses = nn.ModuleDict({source: objective.to(device) for source, objective in objectives.items()})
    model = model.to(device) if whole else model
    for objective in objectives.values():
        prepare(model, objective.of_student)
    return model, losses


def pack(config: TrainingConfig, model: Any) -> float:
    """The share of padding in a batch from which on the student reads it packed; infinite for a student that cannot.

    Raises ModelError if it cannot and is asked to.
    """
    if config.packing == "never" or (config.packing == "auto" and config.student.kind == "encoder"):
        return math.inf
    try:
        enable_packing(model)
    except ModelError as error:
        if config.packing == "always":
            raise ModelError(f"{error}; set packing to auto or never") from error
        logger.warning("%s, so its batches are padded", error)
        return math.inf
    return PACKED_FROM if config.packing == "auto" else 0.0


def hold(config: TrainingConfig, model: Any) -> dict[nn.Parameter, nn.Parameter]:
    """Round the weights that are to be held in bfloat16; returns their float32 masters.

    Those that a student will have in shares, and trains, stay as they are: they are rounded when they are gathered.
    """
    adapted = config.student.adapter is not None
    if config.student.dtype == "float32" or (config.sharding == "full" and not adapted):
        return {}
    return hold_in_bfloat16(model, keep_trained=adapted)


def make_optimizers(
    config: TrainingConfig,
    model: Any,
    objectives: Mapping[str, Objective],
    losses: nn.ModuleDict,
    skipped: int,
    masters: Mapping[nn.Parameter, nn.Parameter] = {},
) -> tuple[torch.optim.Optimizer, Sharpness | None]:
    """The optimiser over the student, or the `masters` of its weights, and the losses' own parameters, and what the
    config puts around it.

    `skipped`: steps so far that went without their perturbation.
    """
    groups = [group for objective in objectives.values() for group in objective.parameter_groups()]
    optimizer = make_optimizer(model, groups, config.optimizer, masters)
    if config.optimizer.sharpness is None:
        return optimizer, None
    named = (*model.named_parameters(), *losses.named_parameters())
    return optimizer, Sharpness(config.optimizer.sharpness, named, skipped)


def open_sources(
    config: TrainingConfig,
    caches: Caches,
    objectives: Mapping[str, Objective],
    text_tokenizer: TextTokenizer,
    first: int,
    device: torch.device,
    packed_from: float = math.inf,
    shared: Shared | None = None,
    ranks: Ranks = ALONE,
) -> dict[str, Source]:
    """Endless batches of each cache from batch number `first`, read ahead for `device`, with the losses over them;
    other runs have the same batches, of what is `shared`. Those of which the share `packed_from` is padding are
    packed.

    The order is that of all `ranks`; each reads its share of every batch, and nothing else.
    """
    sources = {}
    for name, cache in caches.items():
        builder = BatchBuilder(cache, text_tokenizer, objectives[name].of_batch, packed_from)
        alike = cache if name == "student" else caches["corpus"]  # teachers read the same samples at a time
        lengths = alike.tokens if config.order == "length" else None
        order = BatchOrder(len(cache), config.batch_size, config.seed, first, lengths)
        weight = weight_of(config, name, caches)
        if ranks.rank >= config.batch_size:
            sources[name] = Source(objectives[name], iter(()), weight)
            continue
        stream: Iterator[Batch] = batches(
            builder,
            map(ranks.share, order),
            config.loader_workers,
            config.accumulation,
            pinned=device.type == "cuda",
        )
        if shared is not None:
            stream = shared.read(name).join(builder, stream, first, partial(objectives[name].decoded, device))
        sources[name] = Source(objectives[name], stream, weight)
    return sources
