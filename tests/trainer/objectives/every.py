"""Every objective over causal students in one small world: its loss, a batch of all that it reads, and a student.

The losses are those of the registry, each with every choice that it has. Those of encoders are not among them: they see
pooled states alone, without tokens, padding or a vocabulary.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Literal, get_args, get_origin

import torch
from pydantic import ValidationError
from torch import nn

from schemas.cache.kinds.next_token import SparseRecord
from schemas.configs.losses.alm import ALMConfig
from schemas.configs.losses.base import Projection, WeightedLoss
from schemas.configs.losses.ce import CrossEntropyConfig
from schemas.configs.losses.kd import Divergence, KDConfig
from schemas.configs.losses.mined import MinEDConfig
from schemas.configs.losses.mta import MTAConfig
from schemas.configs.losses.multilevel_ot import MultiLevelOTConfig
from schemas.configs.losses.registry import LOSSES
from schemas.configs.losses.sra import SRAConfig
from schemas.configs.losses.uld import ULDConfig
from schemas.errors import RunError
from tests.trainer.objectives.answers import by_layer, whole_logits, with_answers
from tests.trainer.objectives.divergences import with_tail
from tests.trainer.objectives.given import GivenContext
from tests.trainer.objectives.words import STUDENT, TEACHER
from tests.trainer.objectives.world import D_S, D_T, V_S, V_T, counts_of, make_batch, make_context, to_double
from trainer.alignment.vocabulary import share_vocabulary
from trainer.data.batch import Batch
from trainer.data.teacher_states import SparseLogits, SparseTeacher
from trainer.objectives.objective import Objective, build_objective
from trainer.student.states import StudentEmbedding, StudentHidden, StudentStates, StudentUnembedding

ENTRIES = 3  # stored tokens of a teacher's distribution
# Found here are the defaults; of a projected teacher that is right of some tokens alone, all terms must say something.
ALSO: dict[str, list[WeightedLoss]] = {
    **{f"kd, top_k, {name}": [KDConfig(divergence=name, logits="top_k")] for name in get_args(Divergence)},
    "kd, detached mixture": [KDConfig(divergence="skew_reverse_kl", mixture="detached")],
    "mta, projections with a bias": [MTAConfig(projection=Projection(init="linear", bias=True))],
    "sra, a projection with a bias": [SRAConfig(projection=Projection(init="small", bias=True))],
    "kd, hot": [KDConfig(temperature=2.0)],
    "kd with ce": [CrossEntropyConfig(weight=0.5), KDConfig(temperature=2.0)],
    "mta, by token": [MTAConfig(normalise="batch", pooling_weights="teacher")],
    "sra, softened": [SRAConfig(mass_exponent=0.5, ignore_first=1)],
    "sra, means": [SRAConfig(pooling="mean", span_weights="equal", span_kd_reduction="mean", spans="phrase")],
    "sra with ce": [CrossEntropyConfig(weight=0.5), SRAConfig()],
    "alm, plain chunks": [ALMConfig(debias_threshold=None)],
    "uld, span means": [ULDConfig(pairs="span", normalise="sample", temperature=1.5)],
    "multilevel_ot, few": [MultiLevelOTConfig(top_k=4)],
    "mined, whole vocabulary": [MinEDConfig(top_k=None, merge="sum")],
}
BOTH_WAYS = ("dskd", "mta")  # computed otherwise where the tokenizers are one


def variants(kind: type[WeightedLoss]) -> dict[str, list[WeightedLoss]]:
    """A loss as it is by default, and with every other choice of each of its own fields alone."""
    found: dict[str, list[WeightedLoss]] = {kind.name: [kind()]}
    for field, info in kind.model_fields.items():
        own = field not in WeightedLoss.model_fields and field != "loss"
        for choice in get_args(info.annotation) if own and get_origin(info.annotation) is Literal else ():
            if choice != info.default:
                with suppress(ValidationError):  # a choice that needs another to go with it stands in ALSO
                    found[f"{kind.name}, {field}: {choice}"] = [kind.model_validate({"loss": kind.name, field: choice})]
    return found


def needs_one_tokenizer(configs: Sequence[WeightedLoss]) -> bool:
    """Whether these losses refuse a student with another tokenizer."""
    try:
        build_objective(configs, _context(configs, 0, same=False))
    except RunError as error:
        assert "pairs tokens one to one" in str(error)
        return True
    return False


def _context(configs: Sequence[WeightedLoss], seed: int, same: bool) -> GivenContext:
    tokenizers = (STUDENT, STUDENT if same else TEACHER)
    context = replace(
        make_context(seed, same=same),
        tokenizers=tokenizers,
        vocabulary=share_vocabulary(*tokenizers),
        embedding_Vd=torch.randn(V_T, D_T),
    )
    (temperature,) = {config.temperature for config in configs if isinstance(config, KDConfig)} or {1.0}
    stored = SparseRecord(temperature=temperature, entries=ENTRIES)
    record = {"sparse": {"top_k": stored, "sampled": stored}}
    return replace(context, manifest=context.manifest.model_copy(update=record))


_FOUND = {name: each for kind in LOSSES.values() if kind.student == "causal" for name, each in variants(kind).items()}
_FOUND |= ALSO
ONE_TOKENIZER = {name: configs for name, configs in _FOUND.items() if needs_one_tokenizer(configs)}
ONE_TOKENIZER |= {f"{name}, one tokenizer": _FOUND[name] for name in BOTH_WAYS}
TWO_TOKENIZERS = {name: configs for name, configs in _FOUND.items() if name not in ONE_TOKENIZER}
EVERY = ONE_TOKENIZER | TWO_TOKENIZERS


@dataclass(frozen=True)
class World:
    """An objective in float64, the context it was built for, and one batch; the student has modules of its own."""

    objective: Objective
    context: GivenContext
    student: StudentStates
    batch: Batch

    def measure(self) -> dict[str, torch.Tensor]:
        """Value, terms, and the gradient to everything that can learn, by name."""
        value, parts = self.objective(self.student, self.batch, counts_of(self.batch))
        leaves = self.leaves()
        found = torch.autograd.grad(value, tuple(leaves.values()), allow_unused=True)
        gradients = [torch.zeros_like(x) if g is None else g for x, g in zip(leaves.values(), found, strict=True)]
        return {"value": value.detach(), **parts, **dict(zip(leaves, gradients, strict=True))}

    def leaves(self) -> dict[str, torch.Tensor]:
        """States by "logits" and "hidden 5", the student's modules and the objective's own by "embedding.weight" ..."""
        modules = {"embedding": self.student[StudentEmbedding()], "unembedding": self.student[StudentUnembedding()]}
        own = nn.ModuleDict(modules | {"objective": self.objective})
        hidden = {f"hidden {layer}": state for layer, state in by_layer(self.student, StudentHidden).items()}
        return {"logits": whole_logits(self.student)} | hidden | dict(own.named_parameters())


def make_world(name: str, seed: int = 0) -> World:
    """The objective `name` of EVERY and a batch. Of one sample the end of sequence is a target and no text."""
    same = name in ONE_TOKENIZER
    torch.manual_seed(seed)
    context = _context(EVERY[name], seed, same)
    objective = to_double(build_objective(EVERY[name], context))
    student, batch = make_batch(objective, seed, samples=5, same=same)
    batch.target_BS[0, int(batch.mask_BS[0].sum())] = True
    batch.tokens_BS[:, ::2] = 2  # often enough that DSKD's projected teacher is right of some
    modules = {
        StudentEmbedding(): nn.Embedding(V_S, D_S, dtype=torch.float64),
        StudentUnembedding(): nn.Linear(D_S, V_S, dtype=torch.float64),
    }
    student = with_answers(student, modules)
    student[StudentUnembedding()].bias.data[2] += 1.0
    return World(objective, context, student, with_answers(batch, _stored(batch)))


def _stored(batch: Batch) -> dict[SparseTeacher, SparseLogits]:
    """A teacher's likeliest tokens with their tail, and draws from it."""
    p = torch.randn(*batch.teacher_tokens_BT.shape, V_T, dtype=torch.float64).softmax(-1)
    values, ids = with_tail(p, ENTRIES)
    drawn = torch.multinomial(p.flatten(0, 1), ENTRIES, replacement=True).view_as(ids)
    weights = torch.full(drawn.shape, 1 / ENTRIES, dtype=torch.float64)
    return {SparseTeacher("top_k"): SparseLogits(ids, values), SparseTeacher("sampled"): SparseLogits(drawn, weights)}
