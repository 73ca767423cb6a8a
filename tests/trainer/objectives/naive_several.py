"""The losses over texts with several targets: from the equations, in float64, one token, span and pair at a time.

Only what is given is used: the tokens of either side (`two_sides`), the models' states, and the settings.

Shapes: S and T tokens of student and teacher; V and W vocabularies.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from schemas.configs.losses.alm import ALMConfig
from schemas.configs.losses.kd import KDConfig
from schemas.configs.losses.mta import MTAConfig
from schemas.configs.losses.multilevel_ot import MultiLevelOTConfig
from schemas.configs.losses.sra import SRAConfig
from schemas.configs.losses.uld import ULDConfig
from tests.trainer.objectives.two_sides import Range, Side, Tied, aligned, by_range, joined, marked

Level = tuple[int, int, str]  # student layer, teacher layer, word or phrase
ZERO = torch.zeros((), dtype=torch.float64)


@dataclass(frozen=True)
class Given:
    """One text: its tokens, what was marked in it, and both models' states over it."""

    student: Side
    teacher: Side
    targets: list[Range]
    words: list[Range]
    phrases: list[Range]
    logits_SV: Tensor
    hidden: dict[int, Tensor]  # [S, d_S] by layer
    mass: dict[int, Tensor]  # [S]
    teacher_logits_TW: Tensor
    teacher_hidden: dict[int, Tensor]
    teacher_mass: dict[int, Tensor]


@dataclass(frozen=True)
class Models:
    """What a loss knows of both, beside states: depths, the teacher's head, shared tokens, its own projections."""

    layers: tuple[int, int]
    head_WE: Tensor
    shared: list[tuple[int, int]]  # (student's, teacher's)
    boundaries: tuple[list[int], list[int]]
    projection: Callable[[int], Tensor]  # by student layer


def kl(teacher: Tensor, student: Tensor, temperature: float) -> Tensor:
    log_p, log_q = (z.log_softmax(0) for z in (teacher / temperature, student / temperature))
    return (log_p.exp() * (log_p - log_q)).sum()


def cos(u: Tensor, v: Tensor) -> Tensor:
    return torch.dot(u, v) / (torch.dot(u, u).sqrt() * torch.dot(v, v).sqrt())


def ce(given: Sequence[Given]) -> Tensor:
    total, tokens = ZERO, 0
    for one in given:
        for s, _ in one.student.predictions:
            total, tokens = total - one.logits_SV[s].log_softmax(0)[one.student.ids[s + 1]], tokens + 1
    return total / tokens


def kd(given: Sequence[Given], config: KDConfig) -> Tensor:
    """Of one tokenizer: the student's token s is the teacher's, if that has one there."""
    total, pairs = ZERO, 0
    for one in given:
        for s, _ in one.student.predictions:
            if s < len(one.teacher.ids):
                part = kl(one.teacher_logits_TW[s], one.logits_SV[s], config.temperature)
                total, pairs = total + config.temperature**2 * part, pairs + 1
    return total / pairs


def centre(states: Tensor, weight: Tensor, tokens: list[int]) -> Tensor:
    mass = sum((weight[x] for x in tokens), ZERO)
    return sum((weight[x] / mass * states[x] for x in tokens), ZERO)


def geometry(own: Sequence[Tensor], theirs: Sequence[Tensor], weight: Sequence[Tensor]) -> Tensor:
    up, down = ZERO, ZERO
    for i in range(len(weight)):
        for j in range(len(weight)):
            if i != j:
                gap = cos(own[i], own[j]) - cos(theirs[i], theirs[j])
                up, down = up + weight[i] * weight[j] * gap**2, down + weight[i] * weight[j]
    return up / down if len(weight) > 1 else ZERO


def sra(given: Sequence[Given], config: SRAConfig, models: Models) -> Tensor:
    """Masses are those of the whole text; spans of all targets are weighed and compared together."""
    (own_last, last), total = models.layers, ZERO
    for one in given:
        tied = aligned(one.student, one.teacher, one.targets, config.max_spans)
        own = [centre(one.hidden[own_last], one.mass[own_last], piece.student) for piece in tied]
        theirs = [centre(one.teacher_hidden[last], one.teacher_mass[last], piece.teacher) for piece in tied]
        mass = [sum((one.teacher_mass[last][t] for t in piece.teacher), ZERO) for piece in tied]
        weight = [m / sum(mass) for m in mass]
        for m, u, v in zip(weight, own, theirs, strict=True):
            total = total + config.cos * m * (1 - cos(u @ models.projection(own_last), v))
        total = total + config.geo * geometry(own, theirs, weight)
        student_ids, teacher_ids = zip(*models.shared, strict=True)
        for piece, v in zip(tied, theirs, strict=True):
            logits = centre(one.logits_SV, one.mass[own_last], piece.student)[list(student_ids)]
            said = (models.head_WE @ v)[list(teacher_ids)]
            total = total + config.span_kd * kl(said, logits, config.temperature)
    return total / len(given)


def token_weights(states: Tensor, fed: int) -> Tensor:
    """Equations 5 to 7, over the tokens that the model was fed."""
    scaled = [states[x] / states[x].std() for x in range(fed)]
    weight = [0.0] * len(states)
    for u in range(fed):
        others = [t for t in range(fed) if t != u]
        score = torch.stack([torch.dot(scaled[u], scaled[t]) / len(states[0]) ** 0.5 for t in others])
        for t, share in zip(others, score.softmax(0).tolist(), strict=True):
            weight[t] += share / fed
    return torch.tensor(weight, dtype=torch.float64)


def mta(given: Sequence[Given], config: MTAConfig, models: Models, levels: list[Level], by_token: bool) -> Tensor:
    """Structure of words or phrases; hidden states by token, or by words."""
    dsa, hid = ZERO, ZERO
    for own_layer, layer, level in levels:
        for one in given:
            scope = one.targets if config.scope == "response" else None
            tied = marked(one.student, one.teacher, one.words if level == "word" else one.phrases, scope)
            words = marked(one.student, one.teacher, one.words, scope)
            states, teacher = one.hidden[own_layer], one.teacher_hidden[layer]
            weight = token_weights(states.detach(), one.student.fed)
            teacher_weight = token_weights(teacher, len(one.teacher.ids))
            own = [centre(states, weight, piece.student) for piece in tied]
            theirs = [centre(teacher, teacher_weight, piece.teacher) for piece in tied]
            omega = [sum((teacher_weight[t] for t in piece.teacher), ZERO) for piece in tied]
            dsa = dsa + geometry(own, theirs, [o / sum(omega) for o in omega])
            up, down = ZERO, ZERO
            tokens = [Tied(0, [s], [s]) for piece in tied for s in piece.student]
            for piece in tokens if by_token else words:
                u, v = centre(states, weight, piece.student), centre(teacher, teacher_weight, piece.teacher)
                w = sum((teacher_weight[t] for t in piece.teacher), ZERO)
                up, down = up + w * (1 - cos(u @ models.projection(own_layer), v)), down + w
            hid = hid + (up / down if down > 0 else ZERO)
    return (config.dsa * dsa / len(levels) + config.hid * hid) / len(given)


def alm(given: Sequence[Given], config: ALMConfig, models: Models) -> Tensor:
    """Chunks end where the teacher expects a boundary, and where their target does."""
    total = ZERO
    for one in given:
        tied = [t for t in aligned(one.student, one.teacher, one.targets) if 0 not in t.student and 0 not in t.teacher]
        log_q, log_p = one.logits_SV.log_softmax(1), one.teacher_logits_TW.log_softmax(1)
        own_ends, ends = models.boundaries
        chunks, waiting = list[Tied](), list[Tied]()
        for place, piece in enumerate(tied):
            waiting.append(piece)
            least = -1.0 if config.debias_threshold is None else config.debias_threshold
            expected = log_p[piece.teacher[-1], ends].exp().sum() > least
            if expected or place + 1 == len(tied) or tied[place + 1].range != piece.range:
                chunks.append(joined(waiting))
                waiting = []
        for chunk in chunks:
            q = sum((log_q[s - 1, one.student.ids[s]] for s in chunk.student), ZERO)
            p = sum((log_p[t - 1, one.teacher.ids[t]] for t in chunk.teacher), ZERO)
            if config.debias_threshold is not None:
                q = q + log_q[chunk.student[-1], own_ends].exp().sum().log()
                p = p + log_p[chunk.teacher[-1], ends].exp().sum().log()
            a, b = (((x - 1e-4) / config.temperature).exp() for x in (p, q))
            part = a * (a / b).log() + (1 - a) * ((1 - a) / (1 - b)).log()
            total = total + config.temperature * part / len(chunks)
    return total / len(given)


def uld(given: Sequence[Given], config: ULDConfig) -> Tensor:
    """The k-th prediction of a range with the k-th of the other side."""
    total, tokens = ZERO, 0
    for one in given:
        for own, theirs in by_range(one.student, one.teacher):
            tokens += len(own)
            for s, t in zip(own, theirs, strict=False):
                sides = [(z / config.temperature).softmax(0) for z in (one.logits_SV[s], one.teacher_logits_TW[t])]
                q, p = (side.sort(descending=True).values for side in sides)
                width = max(len(q), len(p))
                q, p = (torch.cat([side, side.new_zeros(width - len(side))]) for side in (q, p))
                total = total + (q - p).abs().sum()
    return total / tokens


def multilevel_ot(given: Sequence[Given], config: MultiLevelOTConfig) -> Tensor:
    """Every range as a sample by itself: its own order of the vocabularies, and its own plan."""
    total, tokens = ZERO, 0
    for one in given:
        for places in by_range(one.student, one.teacher):
            tokens += len(places[0])
            if not all(places):
                continue
            rows = one.logits_SV[places[0]], one.teacher_logits_TW[places[1]]
            order = [(z / config.temperature).softmax(1).sum(0).argsort(descending=True)[: config.top_k] for z in rows]
            log_q, log_p = ((z / config.temperature).log_softmax(1)[:, k] for z, k in zip(rows, order, strict=True))
            for said, wanted in zip(log_q, log_p, strict=False):
                total = total + config.absolute * (wanted.exp() - said.exp()).abs().sum()
                total = total - config.logarithmic * (wanted.exp() * said).sum()
            tau = config.sinkhorn_temperature
            q, p = ((z / tau).softmax(1)[:, k] for z, k in zip(rows, order, strict=True))
            cost = torch.stack([torch.stack([(a - b).abs().sum() for b in q]) for a in p])
            plan = (-cost / config.regularisation).exp()
            for _ in range(config.iterations):
                plan = plan / plan.sum(1, keepdim=True)
                plan = plan / plan.sum(0, keepdim=True)
            total = total + config.sinkhorn * (plan * cost).sum()
    return total / tokens


def mined(
    given: Sequence[Given], partner: Callable[..., Any], mapped: Callable[..., Any], temperature: float
) -> Tensor:
    """`partner` walks through two sequences of tokens; `mapped` carries a teacher's logits over. Range by range."""
    total, tokens = ZERO, 0
    for one in given:
        for own, theirs in by_range(one.student, one.teacher):
            tokens += len(own)
            met = partner([one.student.ids[s] for s in own], [one.teacher.ids[t] for t in theirs])
            for s, other in zip(own, met, strict=True):
                log_q = (one.logits_SV[s] / temperature).log_softmax(0)
                if other is None:
                    total = total - log_q[one.student.ids[s + 1]]
                    continue
                p = mapped(one.teacher_logits_TW[theirs[other]], len(log_q))
                total = total + (p[p > 0] * (p[p > 0].log() - log_q[p > 0])).sum()
    return total / tokens
