"""The objectives once more, straight from the equations, one sample, span and token at a time. Slow and independent.

Everything is a 0-d or 1-d tensor so that autograd gives the gradients too; nothing of `trainer` is used here.
"""

import math
from typing import Any

import torch
from torch import Tensor

from schemas.configs.losses.mta import MTAConfig
from schemas.configs.losses.sra import SRAConfig
from tests.trainer.objectives.answers import by_layer, whole_logits, with_answers
from trainer.alignment.vocabulary import SharedVocabulary
from trainer.data.batch import Batch
from trainer.data.teacher_states import TeacherHidden, TeacherMass
from trainer.data.tied_tokens import SameTokenPositions, SpanSet
from trainer.student.states import StudentHidden, StudentMass, StudentStates


def dot(u: Any, v: Any) -> Any:
    return (u * v).sum()


def cos(u: Any, v: Any) -> Any:
    uu, vv = dot(u, u), dot(v, v)
    if uu <= 1e-12 or vv <= 1e-12:
        return torch.zeros((), dtype=u.dtype)
    return dot(u, v) / (torch.sqrt(uu) * torch.sqrt(vv))


def project(u: Any, matrix: Tensor) -> Any:
    return (u[:, None] * matrix).sum(0)


def log_softmax(z: Tensor) -> Tensor:
    top = float(z.detach().max())
    return z - top - torch.log(torch.exp(z - top).sum())


def kl(teacher: Any, student: Any, temperature: float) -> Any:
    log_p, log_q = log_softmax(teacher / temperature), log_softmax(student / temperature)
    return (torch.exp(log_p) * (log_p - log_q)).sum()


def head_logits(head: Any, state: Tensor) -> Tensor:
    z: Tensor = head.transform.scale * ((state * head.weight_Vd.to(state.dtype)).sum(1) + _bias(head))
    return z if head.transform.softcap is None else head.transform.softcap * torch.tanh(z / head.transform.softcap)


def _bias(head: Any) -> Any:
    return 0.0 if head.bias_V is None else head.bias_V


def tokens_of(labels: Tensor, k: int) -> list[int]:
    return [t for t, label in enumerate(labels.tolist()) if label == k]


def spans_of(spans: SpanSet, b: int) -> list[tuple[list[int], list[int]]]:
    """(student tokens, teacher tokens) of every span that counts."""
    return [
        (tokens_of(spans.student_BS[b], k), tokens_of(spans.teacher_BT[b], k))
        for k in range(spans.mask_BK.shape[1])
        if spans.mask_BK[b, k]
    ]


def centre(hidden: Any, weights: Any, tokens: list[int], floor: float = 0.0) -> Any:
    total = sum(weights[t] for t in tokens)
    if floor > 0:
        return sum(weights[t] * hidden[t] for t in tokens) / max(total, floor)
    if total == 0:
        return sum(hidden[t] for t in tokens) / len(tokens)
    return sum(weights[t] / total * hidden[t] for t in tokens)


def ce(student: StudentStates, batch: Batch) -> Any:
    total: Any = 0.0
    for b in range(len(batch.sample_ids)):
        for s in range(1, batch.tokens_BS.shape[1]):
            if batch.target_BS[b, s]:
                total = total - log_softmax(whole_logits(student)[b, s - 1])[batch.tokens_BS[b, s]]
    return {"nll": total}


def kd(student: StudentStates, batch: Batch, head: Any, layer: int, temperature: float) -> Any:
    total = 0.0
    for b in range(len(batch.sample_ids)):
        for s in range(batch.tokens_BS.shape[1] - 1):
            if batch.target_BS[b, s + 1] and batch[SameTokenPositions()][b, s] >= 0:
                z_teacher = head_logits(
                    head, by_layer(batch, TeacherHidden)[layer][b, batch[SameTokenPositions()][b, s]]
                )
                width = min(len(z_teacher), whole_logits(student).shape[2])
                part = kl(z_teacher[:width], whole_logits(student)[b, s, :width], temperature)
                total = total + temperature**2 * part
    return {"kl": total}


def strip(mass: Any, mask: Any, count: int) -> Any:
    kept, seen = [], 0
    for m, real in zip(mass.tolist(), mask.tolist(), strict=True):
        seen += real
        kept.append(m if seen > count else 0.0)
    return kept


def pairwise(student: Any, teacher: Any, weights: Any) -> Any:
    """Numerator and denominator of the weighted mean over ordered pairs."""
    up, down = 0.0, 0.0
    for i in range(len(weights)):
        for j in range(i):  # (i, j) and (j, i) are alike
            gap = cos(student[i], student[j]) - cos(teacher[i], teacher[j])
            up = up + 2 * weights[i] * weights[j] * gap**2
            down = down + 2 * weights[i] * weights[j]
    return up, down


def sra(
    student: StudentStates,
    batch: Batch,
    spans: Any,
    config: SRAConfig,
    layers: Any,
    lasts: Any,
    projection: Any,
    head: Any,
    vocabulary: SharedVocabulary,
) -> Any:
    """`layers`, `lasts`: (student, teacher) layer of cos and geo, and the last ones."""
    total = {"cos": 0.0, "geo": 0.0, "span_kd": 0.0}
    for b in range(len(batch.sample_ids)):
        pairs = spans_of(spans, b)
        if pairs and (config.cos or config.geo):
            own, theirs = _centres(student, batch, b, pairs, config, layers)
            weight = _span_weights(batch, b, pairs, config, layers[1])
            if config.cos:
                for m, u, v in zip(weight, own, theirs, strict=True):
                    total["cos"] = total["cos"] + m * (1 - cos(project(u, projection), v))
            up, down = pairwise(own, theirs, weight)
            if down > 0:
                total["geo"] = total["geo"] + up / down
        if pairs and config.span_kd:
            # The student's centres are of its logits, which its head, being linear, would make of centres of states.
            logits = {StudentHidden(lasts[0]): whole_logits(student)}
            own, theirs = _centres(with_answers(student, logits), batch, b, pairs, config, lasts)
            part: Any = 0.0
            for z_student, state in zip(own, theirs, strict=True):
                z_teacher = head_logits(head, state)[vocabulary.teacher_ids]
                part = part + kl(z_teacher, z_student[vocabulary.student_ids], config.temperature)
            total["span_kd"] = total["span_kd"] + (part / len(pairs) if config.span_kd_reduction == "mean" else part)
    return total


def _centres(student: StudentStates, batch: Batch, b: int, pairs: Any, config: SRAConfig, layers: Any) -> Any:
    """The centres of mass of a sample's spans: the student's and the teacher's."""
    own = by_layer(student, StudentHidden)[layers[0]][b], by_layer(student, StudentMass), batch.mask_BS[b]
    theirs = by_layer(batch, TeacherHidden)[layers[1]][b], by_layer(batch, TeacherMass), batch.teacher_mask_BT[b]
    found = []
    for side, (states, masses, mask) in enumerate((own, theirs)):
        mean = config.pooling == "mean"
        weights = [1.0] * len(mask) if mean else strip(masses[layers[side]][b], mask, config.ignore_first)
        found.append([centre(states, weights, pair[side], config.mass_floor) for pair in pairs])
    return found


def _span_weights(batch: Batch, b: int, pairs: Any, config: SRAConfig, layer: int) -> list[Any]:
    """omega of a sample's spans, 1 in sum; all 0 if no span has mass."""
    if config.span_weights == "equal" or config.mass_exponent == 0:
        return [1 / len(pairs)] * len(pairs)
    mass = strip(by_layer(batch, TeacherMass)[layer][b], batch.teacher_mask_BT[b], config.ignore_first)
    raised = [sum(mass[t] for t in tokens) ** config.mass_exponent for _, tokens in pairs]
    return [m / sum(raised) if sum(raised) > 0 else 0.0 for m in raised]


def token_weights(hidden: Any, mask: Any) -> Any:
    """w_t = mean over u of softmax over t != u of H^_u . H^_t / sqrt(d); a list of floats, 0 for padding."""
    real = [t for t, m in enumerate(mask.tolist()) if m]
    if len(real) == 1:
        return [1.0 if t in real else 0.0 for t in range(len(mask))]
    scaled = {}
    for t in real:
        h = hidden[t].detach().tolist()
        mean = sum(h) / len(h)
        variance = sum((x - mean) ** 2 for x in h) / (len(h) - 1)
        scaled[t] = [x / math.sqrt(variance) if variance > 1e-12 else 0.0 for x in h]
    weights = [0.0] * len(mask)
    for u in real:
        others = [t for t in real if t != u]
        score = {
            t: sum(x * y for x, y in zip(scaled[u], scaled[t], strict=True)) / math.sqrt(len(scaled[t])) for t in others
        }
        top = max(score.values())
        total = sum(math.exp(s - top) for s in score.values())
        for t in others:
            weights[t] += math.exp(score[t] - top) / total / len(real)
    return weights


def mta(
    student: StudentStates, batch: Batch, config: MTAConfig, key_layers: Any, projections: Any, by_token: bool
) -> Any:
    """`key_layers`: (student layer, teacher layer, spans of that level, words)."""
    dsa, hid = [], []
    for l_student, l_teacher, spans, words in key_layers:
        own, theirs = by_layer(student, StudentHidden)[l_student], by_layer(batch, TeacherHidden)[l_teacher]
        dsa_parts, hid_parts = [], []
        for b in range(len(batch.sample_ids)):
            w_teacher = _weights(config, theirs[b], batch.teacher_mask_BT[b])
            if config.pooling_weights == "teacher":
                w_student = [w_teacher[p] if p >= 0 else 0.0 for p in batch[SameTokenPositions()][b].tolist()]
            else:
                w_student = _weights(config, own[b], batch.mask_BS[b])
            pairs = spans_of(spans, b)
            omega = [sum(w_teacher[t] for t in tokens) for _, tokens in pairs]
            omega = [o / sum(omega) for o in omega] if pairs else []
            u_student = [centre(own[b], w_student, tokens) for tokens, _ in pairs]
            u_teacher = [centre(theirs[b], w_teacher, tokens) for _, tokens in pairs]
            dsa_parts.append(pairwise(u_student, u_teacher, omega))
            up, down = 0.0, 0.0
            if not config.hid:
                continue
            matrix = projections[str(l_student)]
            if by_token:
                for tokens, _ in pairs:
                    for s in tokens:
                        t = int(batch[SameTokenPositions()][b, s])
                        if t >= 0:
                            up = up + w_teacher[t] * (1 - cos(project(own[b, s], matrix), theirs[b, t]))
                            down += w_teacher[t]
            else:
                for s_tokens, t_tokens in spans_of(words, b):
                    weight = sum(w_teacher[t] for t in t_tokens)
                    u, v = centre(own[b], w_student, s_tokens), centre(theirs[b], w_teacher, t_tokens)
                    up, down = up + weight * (1 - cos(project(u, matrix), v)), down + weight
            hid_parts.append((up, down))
        dsa.append(_reduce(dsa_parts, config.normalise))
        hid.append(_reduce(hid_parts, "sample"))
    hid_total = sum(hid) if config.hid_reduction == "sum" else sum(hid) / len(hid)
    return {"dsa": sum(dsa) / len(dsa), "hid": hid_total}


def _weights(config: MTAConfig, hidden: Any, mask: Any) -> Any:
    if config.token_weights == "uniform":
        return [float(m) / int(mask.sum()) for m in mask.tolist()]
    return token_weights(hidden, mask)


def _reduce(parts: Any, normalise: str) -> Any:
    if normalise == "sample":
        return sum(up / down for up, down in parts if down > 0)
    down = sum(d for _, d in parts)
    return len(parts) * sum(u for u, _ in parts) / down if down > 0 else 0.0
