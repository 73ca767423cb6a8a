"""DSKD once more, straight from the paper's equations, one position at a time."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from schemas.configs.losses.dskd import DSKDConfig
from tests.trainer.objectives import naive
from tests.trainer.objectives.answers import by_layer, whole_logits
from tests.trainer.objectives.given import GivenContext
from tests.trainer.objectives.world import (
    D_T,
    L_S,
    L_T,
    V_S,
)
from trainer.data.batch import Batch
from trainer.data.teacher_states import TeacherHidden
from trainer.data.tied_tokens import SameTokenPositions
from trainer.student.states import StudentEmbedding, StudentHidden, StudentStates, StudentUnembedding

TERMS = ("t2s_ce", "t2s_kd", "s2t_kd")


def linear(x: Tensor, layer: nn.Linear) -> Tensor:
    out = (layer.weight * x).sum(1)
    return out if layer.bias is None else out + layer.bias


def deviation(vectors: Any) -> Any:
    numbers = [float(x) for vector in vectors for x in vector]
    mean = sum(numbers) / len(numbers)
    return math.sqrt(sum((x - mean) ** 2 for x in numbers) / (len(numbers) - 1))


def weighted(scores: Any, vectors: Any) -> Any:
    shares = [torch.exp(x) for x in naive.log_softmax(torch.stack(scores))]
    return sum(share * vector for share, vector in zip(shares, vectors, strict=True))


def naive_dskd(
    loss: Any, student: StudentStates, batch: Batch, context: GivenContext, config: DSKDConfig, same: bool
) -> Any:
    """Totals by name, from the paper's equations, one position at a time."""
    if same:
        student_rows, teacher_rows = _paired(loss, student, batch)
    else:
        student_rows, teacher_rows = _linked(loss, student, batch, context)
    masked = config.mask_wrong == "always" or (config.mask_wrong == "auto" and not same)
    total = {name: torch.zeros((), dtype=whole_logits(student).dtype) for name in (*TERMS, "t2s_acc")}
    for b, s, projected in student_rows if config.student_space else ():
        weight, bias = student[StudentUnembedding()].weight.detach(), student[StudentUnembedding()].bias.detach()
        logits = (weight * projected).sum(1) + bias
        x = int(batch.tokens_BS[b, s + 1])
        right = max(range(V_S), key=logits.tolist().__getitem__) == x
        total["t2s_ce"] = total["t2s_ce"] - naive.log_softmax(logits)[x]
        total["t2s_acc"] = total["t2s_acc"] + right
        if right or not masked:
            kl = naive.kl(logits.detach(), whole_logits(student)[b, s], config.temperature)
            total["t2s_kd"] = total["t2s_kd"] + kl
    for state, projected in teacher_rows if config.teacher_space else ():
        p, q = naive.head_logits(context.head, state), naive.head_logits(context.head, projected)
        total["s2t_kd"] = total["s2t_kd"] + naive.kl(p, q, config.temperature)
    return total


# Of each row: (sample, position, projected teacher) of the student's, (state, projected student) of the teacher's.
Rows = tuple[list[tuple[int, int, Any]], list[tuple[Tensor, Any]]]


def _paired(loss: Any, student: StudentStates, batch: Batch) -> Rows:
    """With one tokenizer: the positions that are the same token."""
    states: Any = by_layer(student, StudentHidden).get(L_S)
    teacher, position_BS = by_layer(batch, TeacherHidden)[L_T], batch[SameTokenPositions()].tolist()
    student_rows, teacher_rows = list[Any](), list[Any]()
    for b, s in following(batch.target_BS):
        state = teacher[b, position_BS[b][s]]
        if position_BS[b][s] >= 0:
            student_rows.append((b, s, linear(state, loss.t2s) if hasattr(loss, "t2s") else None))
            teacher_rows.append((state, linear(states[b, s], loss.s2t) if hasattr(loss, "s2t") else None))
    return student_rows, teacher_rows


def _linked(loss: Any, student: StudentStates, batch: Batch, context: GivenContext) -> Rows:
    """With two tokenizers: every position of one side reads all of the other's, by attention between embeddings."""
    states: Any = by_layer(student, StudentHidden).get(L_S)
    teacher = by_layer(batch, TeacherHidden)[L_T]
    of_student, of_teacher = student[StudentEmbedding()].weight.detach(), context.embedding_Vd.to(teacher.dtype)
    student_rows, teacher_rows = list[Any](), list[Any]()
    for b in range(len(batch.sample_ids)):
        tokens, said = batch.tokens_BS[b].tolist(), batch.teacher_tokens_BT[b].tolist()
        places = [s for row, s in following(batch.target_BS) if row == b]
        teacher_places = [t for row, t in following(batch.teacher_target_BT) if row == b]
        if not places or not teacher_places:
            continue
        pairs = [torch.cat([of_student[tokens[s]], of_student[tokens[s + 1]]]) for s in places]
        queries = [linear(pair, loss.attention.query) for pair in pairs]
        keys = [torch.cat([of_teacher[said[t]], of_teacher[said[t + 1]]]) for t in teacher_places]
        following_tokens, hidden = (
            [of_teacher[said[t + 1]] for t in teacher_places],
            [teacher[b, t] for t in teacher_places],
        )
        of_keys, of_next, of_hidden = deviation(keys), deviation(following_tokens), deviation(hidden)
        score = [[naive.dot(q, k / of_keys) / math.sqrt(2 * D_T) for k in keys] for q in queries]
        if hasattr(loss, "t2s"):
            pairs = [h / of_hidden + e / of_next for h, e in zip(hidden, following_tokens, strict=True)]
            values = [linear(pair, loss.t2s) for pair in pairs]
            student_rows += [(b, s, weighted(score[i], values)) for i, s in enumerate(places)]
        if hasattr(loss, "s2t"):
            back = [linear(states[b, s], loss.s2t) for s in places]
            teacher_rows += [(h, weighted([row[j] for row in score], back)) for j, h in enumerate(hidden)]
    return student_rows, teacher_rows


def following(target_BX: Tensor) -> list[tuple[int, int]]:
    """(sample, position) of every prediction of a target."""
    rows, positions = target_BX.shape
    return [(b, x) for b in range(rows) for x in range(positions - 1) if target_BX[b, x + 1]]
