"""Every objective over causal students in one small world: its loss, a batch of all that it reads, and a student.

TALAS is not among them: it sees pooled states alone, without tokens, padding or a vocabulary.
"""

from dataclasses import dataclass, replace
from typing import get_args

import torch
from torch import nn

from schemas.cache.kinds.next_token import SparseRecord
from schemas.configs.losses.alm import ALMConfig
from schemas.configs.losses.ce import CrossEntropyConfig
from schemas.configs.losses.dskd import DSKDConfig
from schemas.configs.losses.fdd import FDDConfig
from schemas.configs.losses.kd import Divergence, KDConfig
from schemas.configs.losses.mined import MinEDConfig
from schemas.configs.losses.mta import MTAConfig
from schemas.configs.losses.multilevel_ot import MultiLevelOTConfig
from schemas.configs.losses.sra import SRAConfig
from schemas.configs.losses.uld import ULDConfig
from tests.trainer.objectives.answers import by_layer, with_answers
from tests.trainer.objectives.given import GivenContext
from tests.trainer.objectives.test_alm import STUDENT, TEACHER
from tests.trainer.objectives.test_kd import with_tail
from tests.trainer.objectives.world import D_S, D_T, V_S, V_T, counts_of, make_batch, make_context, to_double
from trainer.alignment.vocabulary import share_vocabulary
from trainer.data.batch import Batch
from trainer.data.teacher_states import SparseLogits, SparseTeacher
from trainer.objectives.objective import Objective, build_objective
from trainer.student.states import StudentEmbedding, StudentHidden, StudentLogits, StudentStates, StudentUnembedding

ENTRIES = 3  # stored tokens of a teacher's distribution
SOFT = {"temperature": 2.0}
ONE_TOKENIZER = {
    **{f"kd, {name}": [KDConfig(divergence=name, **SOFT)] for name in get_args(Divergence)},
    **{f"kd, top_k, {name}": [KDConfig(divergence=name, logits="top_k", **SOFT)] for name in get_args(Divergence)},
    "kd, sampled": [KDConfig(logits="sampled", **SOFT)],
    "kd with ce": [CrossEntropyConfig(weight=0.5), KDConfig(**SOFT)],
    "fdd": [FDDConfig()],
    "dskd, one tokenizer": [DSKDConfig(mask_wrong="always")],
    "mta, by token": [MTAConfig(normalise="batch", pooling_weights="teacher")],
}
TWO_TOKENIZERS = {
    "ce": [CrossEntropyConfig()],
    "sra": [SRAConfig(mass_exponent=0.5, ignore_first=1)],
    "sra, means": [SRAConfig(pooling="mean", span_weights="equal", span_kd_reduction="mean", spans="phrase")],
    "sra with ce": [CrossEntropyConfig(weight=0.5), SRAConfig()],
    "mta": [MTAConfig()],
    "dskd": [DSKDConfig(mask_wrong="always")],
    "alm": [ALMConfig()],
    "alm, plain chunks": [ALMConfig(debias_threshold=None)],
    "uld": [ULDConfig(temperature=1.5)],
    "uld, spans": [ULDConfig(pairs="span", normalise="sample")],
    "multilevel_ot": [MultiLevelOTConfig(top_k=4)],
    "mined": [MinEDConfig(top_k=4)],
    "mined, whole vocabulary": [MinEDConfig(top_k=None, merge="sum")],
    "mined, skip": [MinEDConfig(unaligned="skip")],
}
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
        found = torch.autograd.grad(value, leaves.values(), allow_unused=True)
        gradients = [torch.zeros_like(x) if g is None else g for x, g in zip(leaves.values(), found, strict=True)]
        return {"value": value.detach(), **parts, **dict(zip(leaves, gradients, strict=True))}

    def leaves(self) -> dict[str, torch.Tensor]:
        """States by "logits" and "hidden 5", the student's modules and the objective's own by "embedding.weight" ..."""
        modules = {"embedding": self.student[StudentEmbedding()], "unembedding": self.student[StudentUnembedding()]}
        own = nn.ModuleDict(modules | {"objective": self.objective})
        hidden = {f"hidden {layer}": state for layer, state in by_layer(self.student, StudentHidden).items()}
        return {"logits": self.student[StudentLogits()]} | hidden | dict(own.named_parameters())


def make_world(name: str, seed: int = 0) -> World:
    """The objective `name` of EVERY and a batch. Of one sample the end of sequence is a target and no text."""
    same = name in ONE_TOKENIZER
    tokenizers = (STUDENT, STUDENT if same else TEACHER)
    torch.manual_seed(seed)
    context = replace(
        make_context(seed, same=same),
        tokenizers=tokenizers,
        vocabulary=share_vocabulary(*tokenizers),
        embedding_Vd=torch.randn(V_T, D_T),
    )
    stored = SparseRecord(temperature=SOFT["temperature"], entries=ENTRIES)
    record = {"sparse": {"top_k": stored, "sampled": stored}}
    context = replace(context, manifest=context.manifest.model_copy(update=record))
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
