"""Small random batches and student states: odd shapes, ragged spans, samples without spans or targets, zero masses."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from schemas.cache.arrays import ArrayRecord
from schemas.cache.manifest import CacheManifest, CorpusRecord
from schemas.cache.teacher import HeadRecord, TeacherRecord
from schemas.models.teacher_head import TeacherHead
from tests.trainer.objectives.answers import by_layer, whole_logits
from tests.trainer.objectives.given import GivenContext
from trainer.alignment.vocabulary import SharedVocabulary
from trainer.data.batch import Batch, Divisor
from trainer.data.target_ranges import RangeLabels, TargetRanges
from trainer.data.teacher_states import SparseLogits, TeacherHidden, TeacherMass
from trainer.data.tied_tokens import SameTokenPositions, Spans, SpanSet
from trainer.objectives.context import StudentSize
from trainer.objectives.objective import Objective
from trainer.student.states import (
    StudentHidden,
    StudentLogits,
    StudentMass,
    StudentStates,
    StudentUnembedding,
    layers_of,
)

L_S, L_T, D_S, D_T, V_S, V_T = 6, 9, 5, 4, 7, 9
SEEDS = {torch.float64: (0, 1), torch.float32: (2,)}


def manifest(
    hidden: Iterable[int] = range(L_T + 1),
    mass: Iterable[int] = range(1, L_T + 1),
    kind: Any = "causal",
    annotator: str = "english 1",
    record: HeadRecord | None = None,
) -> CacheManifest:
    arrays = [ArrayRecord(kind="hidden", layer=layer, width=D_T, dtype="float32") for layer in hidden]
    arrays += [ArrayRecord(kind="mass", layer=layer, width=None, dtype="float32") for layer in mass]
    head = (record or HeadRecord(dtype="float32", bias=True)) if kind == "causal" else None
    teacher = TeacherRecord(
        model="tiny", kind=kind, num_layers=L_T, hidden_size=D_T, vocab_size=V_T, max_tokens=64, head=head
    )
    corpus = CorpusRecord(samples=3, empty=0, sha256="0")
    return CacheManifest(
        fingerprint="0",
        identity={},
        teacher=teacher,
        annotator=annotator,
        arrays=arrays,
        corpus=corpus,
        units=1,
        provenance={},
    )


def make_context(
    seed: int = 0, same: bool = False, shared: Any = None, record: HeadRecord | None = None, **cache: Any
) -> GivenContext:
    """Two models of 6 and 9 layers. `shared`: (student ids, teacher ids)."""
    g = torch.Generator().manual_seed(seed)
    held = manifest(record=record, **cache)
    head = None
    if held.teacher.head is not None:
        bias = torch.randn(V_T, generator=g) if held.teacher.head.bias else None
        head = TeacherHead(torch.randn(V_T, D_T, generator=g), bias, held.teacher.head)
    ids = shared if shared is not None else ([0, 2, 3, 6], [5, 0, 8, 2])
    vocabulary = SharedVocabulary(*(torch.tensor(x, dtype=torch.long) for x in ids))
    return GivenContext(held, head, StudentSize(L_S, D_S), vocabulary, same)


def make_batch(
    objective: Objective,
    seed: int = 0,
    samples: int = 4,
    same: bool = False,
    dtype: torch.dtype = torch.float64,
    spanless: bool = True,
) -> tuple[StudentStates, Batch]:
    """A batch for `objective` and the student's states over it, all leaves that want a gradient."""
    g = torch.Generator().manual_seed(seed)

    def randn(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=g, dtype=torch.float64).to(dtype)

    lengths = torch.randint(1, 7, (samples,), generator=g)
    lengths[0] = 7
    teacher_lengths = lengths.clone() if same else torch.randint(1, 9, (samples,), generator=g)
    if samples > 2:
        lengths[1] = teacher_lengths[1] = 1  # a single token, which can attend to nothing else
    S, T = int(lengths.max()) + 1, int(teacher_lengths.max()) + 2
    mask_BS, teacher_mask_BT = torch.arange(S) < lengths[:, None], torch.arange(T) < teacher_lengths[:, None]
    target_BS = mask_BS & (torch.rand(samples, S, generator=g) < 0.7)
    target_BS[:, 0] = False
    answers = _places(objective, mask_BS, T)
    for request in asked(objective, Spans):
        answers[request] = _spans(g, lengths, teacher_lengths, S, T, same)
        if spanless and samples > 3:
            answers[request].mask_BK[3] = False
    answers |= {request: _mass(g, teacher_mask_BT, dtype) for request in asked(objective, TeacherMass)}
    batch = Batch(
        sample_ids=tuple(f"s{i}" for i in range(samples)),
        tokens_BS=torch.randint(0, V_S, (samples, S), generator=g),
        mask_BS=mask_BS,
        target_BS=target_BS,
        teacher_tokens_BT=torch.randint(0, V_T, (samples, T), generator=g),
        teacher_mask_BT=teacher_mask_BT,
        teacher_target_BT=teacher_mask_BT & (torch.arange(T) > 0),
        answers=answers | {request: randn(samples, T, D_T) for request in asked(objective, TeacherHidden)},
    )
    hidden, masses = (layers_of(kind, objective.of_student) for kind in (StudentHidden, StudentMass))
    states: dict[Any, Any] = {StudentLogits(): (2 * randn(samples, S, V_S)).requires_grad_()}
    states |= {StudentHidden(layer): randn(samples, S, D_S).requires_grad_() for layer in sorted(hidden)}
    if StudentUnembedding() in objective.of_student:
        states[StudentUnembedding()] = _unembedding(dtype)
    states |= {StudentMass(layer): _mass(g, mask_BS, dtype) for layer in sorted(masses)}
    return StudentStates(states), batch


def _places(objective: Objective, mask_BS: Tensor, T: int) -> dict[Any, Any]:
    """Which token is which on the other side, and of which target, the only one; as far as the objective asks."""
    samples, S = mask_BS.shape
    answers: dict[Any, Any] = {}
    if SameTokenPositions() in objective.of_batch:
        position_BS = torch.where(mask_BS, torch.arange(S).expand(samples, S), -1)
        position_BS[0, 5] = -1  # a token of the student's own
        answers[SameTokenPositions()] = position_BS
    if TargetRanges() in objective.of_batch:
        answers[TargetRanges()] = RangeLabels(*(torch.zeros(samples, width, dtype=torch.long) for width in (S, T)))
    return answers


def _unembedding(dtype: torch.dtype) -> torch.nn.Linear:
    with torch.random.fork_rng():
        return torch.nn.Linear(D_S, V_S, bias=False, dtype=dtype)


def asked(objective: Objective, kind: type[Any]) -> list[Any]:
    """What the objective asks of a batch, of one kind, in a fixed order."""
    return sorted((request for request in objective.of_batch if isinstance(request, kind)), key=repr)


def _mass(g: torch.Generator, mask: Tensor, dtype: torch.dtype) -> Tensor:
    """Positive, skewed, a few exactly 0, 1 in sum."""
    raw = torch.rand(mask.shape, generator=g, dtype=torch.float64) ** 4 * mask
    raw = raw * (torch.rand(mask.shape, generator=g) < 0.8)
    raw[:, 0] += 0.1  # a sink, so that no sample is all zero
    return (raw / raw.sum(1, keepdim=True)).to(dtype)


def _spans(g: torch.Generator, lengths: Tensor, teacher_lengths: Tensor, S: int, T: int, same: bool) -> SpanSet:
    K = 5
    student = _labels(g, lengths, S, K)
    teacher = torch.nn.functional.pad(student, (0, T - S), value=-1) if same else _labels(g, teacher_lengths, T, K)
    both = [[bool((student[b] == k).any() and (teacher[b] == k).any()) for k in range(K)] for b in range(len(lengths))]
    return SpanSet(student, teacher, torch.tensor(both))


def _labels(g: torch.Generator, lengths: Tensor, width: int, K: int) -> Tensor:
    """Ascending labels with gaps: some tokens in no span, some spans without tokens."""
    labels = torch.full((len(lengths), width), -1)
    for b, length in enumerate(lengths.tolist()):
        drawn = torch.randint(0, K, (length,), generator=g).sort().values
        labels[b, :length] = torch.where(torch.rand(length, generator=g) < 0.85, drawn, -1)
    return labels


def counts_of(*batches: Batch) -> dict[Divisor, int]:
    paired = all(SameTokenPositions() in batch.answers for batch in batches)
    divisors: tuple[Divisor, ...] = ("token", "pair", "shared", "sample") if paired else ("token", "sample")
    return {divisor: sum(batch.count(divisor) for batch in batches) for divisor in divisors}


def to_double(objective: Objective) -> Objective:
    """Projections in float64, for comparisons to more digits than float32 has. The teacher's head stays as it is."""
    for parameter in objective.parameters():
        parameter.data = parameter.data.double()
    return objective


def pick(student: StudentStates, batch: Batch, samples: list[int]) -> tuple[StudentStates, Batch]:
    """The batch and states of some samples alone, in the order given. States keep their graph."""
    index = torch.tensor(samples)

    def rows(answer: Any) -> Any:
        if isinstance(answer, torch.nn.Module):
            return answer
        if isinstance(answer, SpanSet):
            return SpanSet(answer.student_BS[index], answer.teacher_BT[index], answer.mask_BK[index])
        if isinstance(answer, RangeLabels):
            return RangeLabels(answer.student_BS[index], answer.teacher_BT[index])
        if isinstance(answer, SparseLogits):
            return SparseLogits(answer.ids_BTn[index], answer.values_BTn[index])
        return answer[index]

    part = replace(
        batch,
        sample_ids=tuple(batch.sample_ids[i] for i in samples),
        tokens_BS=batch.tokens_BS[index],
        mask_BS=batch.mask_BS[index],
        target_BS=batch.target_BS[index],
        teacher_tokens_BT=batch.teacher_tokens_BT[index],
        teacher_mask_BT=batch.teacher_mask_BT[index],
        teacher_target_BT=batch.teacher_target_BT[index],
        answers={request: rows(answer) for request, answer in batch.answers.items()},
    )
    return StudentStates({request: rows(answer) for request, answer in student.answers.items()}), part


def losses_of(objective: Objective) -> list[Any]:
    """The losses, with whatever each has of its own."""
    return list(objective.losses)


def leaves(student: StudentStates, objective: Objective) -> list[Tensor]:
    return [whole_logits(student), *by_layer(student, StudentHidden).values(), *objective.parameters()]


def gradients(scalar: Tensor, student: StudentStates, objective: Objective) -> list[Tensor]:
    found = torch.autograd.grad(scalar, leaves(student, objective), allow_unused=True)
    return [
        torch.zeros_like(leaf) if g is None else g for g, leaf in zip(found, leaves(student, objective), strict=True)
    ]
