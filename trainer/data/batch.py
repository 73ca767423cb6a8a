"""What one training step sees: student tokens, the teacher's cached states, and the spans that tie the two together.

Shapes: B samples, S student tokens, T teacher tokens, K spans, V student vocabulary, d width. Padding is on the right.
"""

from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor, nn

Self = TypeVar("Self", bound="OnDevice")
Unit = Literal["token", "pair", "sample"]


class OnDevice:
    """Moves every tensor of a dataclass, however deep in dicts."""

    def to(self: Self, device: torch.device) -> Self:
        moved = {f.name: _move(getattr(self, f.name), device) for f in fields(self)}  # type: ignore[arg-type]
        return replace(self, **moved)  # type: ignore[type-var]


def _move(value: Any, device: torch.device) -> Any:
    if isinstance(value, (Tensor, OnDevice)):
        return value.to(device, non_blocking=True) if isinstance(value, Tensor) else value.to(device)
    return {key: _move(item, device) for key, item in value.items()} if isinstance(value, dict) else value


@dataclass(frozen=True)
class SpanRequest:
    """Which spans a loss wants; equal requests are served once."""

    unit: Literal["aligned", "word", "phrase"]
    scope: Literal["text", "response"]
    phrases: tuple[str, ...] = ()  # of "noun", "verb"; for unit "phrase"
    max_spans: int | None = None  # more are merged uniformly; for unit "aligned"


@dataclass(frozen=True)
class SpanSet(OnDevice):
    """Spans as labels: which span each token belongs to, or -1. A token belongs to one span at most."""

    student_BS: Tensor  # long
    teacher_BT: Tensor  # long
    mask_BK: Tensor  # bool: the span exists and has tokens on both sides; K is at least 1


@dataclass(frozen=True)
class Needs:
    """What a loss reads. The loop loads and computes the union over the objective, and nothing else."""

    teacher_hidden: frozenset[int] = frozenset()
    teacher_mass: frozenset[int] = frozenset()
    student_hidden: frozenset[int] = frozenset()
    student_mass: frozenset[int] = frozenset()
    spans: frozenset[SpanRequest] = frozenset()
    pairs: bool = False  # token pairs of one shared tokenizer
    sparse: frozenset[str] = frozenset()  # the teacher's stored distributions
    pooled: bool = False  # the teacher's sentence embedding
    student_pooled: frozenset[int] = frozenset()  # layers of an encoder student
    second_view: bool = False  # a second pass of an encoder student, under other dropout
    modules: bool = False  # the student's own embedding and unembedding

    def __or__(self, other: "Needs") -> "Needs":
        return Needs(**{f.name: getattr(self, f.name) | getattr(other, f.name) for f in fields(self)})


@dataclass(frozen=True)
class SparseLogits(OnDevice):
    """The teacher's stored next-token distribution at every token, n entries each.

    top_k: the k likeliest tokens, without repeats, and the log-probabilities of each and of all others, the tail.
    sampled: n draws, with repeats, and the weight of each, such that sum_i weight_i f(id_i) estimates E[f] unbiased.
    """

    ids_BTn: Tensor  # long
    values_BTn: Tensor  # float32: log-probabilities, n + 1 of them, or weights


@dataclass(frozen=True)
class Batch(OnDevice):
    """A padded batch. Teacher states are float32 whatever their dtype on disk."""

    sample_ids: tuple[str, ...]
    tokens_BS: Tensor  # long
    mask_BS: Tensor  # bool: text; neither padding nor an end of sequence that is only a target
    target_BS: Tensor  # bool: token s is a target of cross-entropy, predicted from the state at s - 1; never at s = 0
    teacher_tokens_BT: Tensor  # long
    teacher_mask_BT: Tensor  # bool
    teacher_target_BT: Tensor  # bool: the teacher predicts token t from its state at t - 1, as the student its targets
    teacher_hidden: dict[int, Tensor]  # layer -> [B, T, d_T]
    teacher_mass: dict[int, Tensor]  # layer -> [B, T]
    spans: dict[SpanRequest, SpanSet]
    pair_BS: Tensor | None  # long: the teacher token that is student token s, or -1; only when asked for
    sparse: dict[str, SparseLogits] = field(default_factory=dict)
    pooled_Be: Tensor | None = None  # the teacher's sentence embedding, [B, d_T]; only when asked for

    def count(self, unit: Unit) -> int:
        """How many terms a loss with this unit sums over: the divisor, known before any forward pass.

        token: cross-entropy targets. pair: those whose predicting state has a counterpart. sample: samples.
        """
        if unit == "token":
            return int(self.target_BS.sum())
        if unit == "pair":
            return int(self.paired_targets().sum())
        return len(self.sample_ids)

    def paired_targets(self) -> Tensor:
        """[B, S] bool, at s: the state at s predicts a target and has a counterpart, so the teacher predicts it too.

        The end of sequence is among them, whether or not the teacher was fed one: when to stop is worth learning.
        """
        if self.pair_BS is None:
            raise ValueError("this batch was built without token pairs")
        paired = torch.zeros_like(self.target_BS)
        paired[:, :-1] = self.target_BS[:, 1:] & (self.pair_BS[:, :-1] >= 0)
        return paired


@dataclass(frozen=True)
class StudentStates:
    """One forward pass of the student. Masses carry no gradient.

    An encoder student predicts no tokens (V = 0) and gives pooled states; a causal one gives all the others.
    """

    logits_BSV: Tensor
    hidden: dict[int, Tensor]  # layer -> [B, S, d_S]; 0 embeddings, L after the final norm
    mass: dict[int, Tensor]  # layer -> [B, S], summing to 1 over a sample
    embedding: nn.Embedding | None = None  # of the student's own tokens, only when asked for
    unembedding: nn.Linear | None = None
    pooled: dict[int, Tensor] = field(default_factory=dict)  # layer -> [B, d_S], as `hidden`
    second_view_Bd: Tensor | None = None  # the last layer pooled in a second pass
