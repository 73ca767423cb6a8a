"""ALM, approximate likelihood matching (arXiv 2503.20083): how likely the same piece of text is to either model. For
any two tokenizers and a causal teacher.

Costs, beyond CE: one [tokens, d_T] x [d_T, V_T] product of the teacher, chunk by chunk, and one matrix like the
student's logits for their gradient.

Chunks are the finest spans that both tokenizations agree on. A token that ends one may be cut short by its tokenizer:
`the` says little of ` theatre` to a model that has the longer token, and much to one that has not. *Outcome debiasing*
takes the likelihood that a word boundary follows into each chunk's, and joins chunks until the teacher expects one.

Decisions, the first two as in the authors' code (tokenkit), which also has the defaults tau = 100 and gamma = 0.1:
- A boundary token is a special one, or begins with a space, tab or newline. Chunks after the last boundary that passes
  the threshold are one chunk, whatever follows it.
- A chunk's log-likelihood is lowered by 1e-4 on both sides (their 1e-6 after division by tau = 100): in float32 a
  likelihood of 1 is known no better, and log(1 - p) stays finite.
- Binarised cross-entropy differs from our KL by a constant.
- The loss is multiplied by tau. As tau grows it would vanish; so it tends to a log(a/b) - a + b for KL, with
  a = -log p^T and b = -log p^S. The authors balance losses by their gradients, so a factor changes nothing.
- A mean over the chunks of a sample, then over samples (theirs: over all chunks). A sample without a chunk adds 0.
- A chunk with a token at position 0 of either side is left out: nothing predicts it.
- Where a target ends, its last chunk does: no chunk reaches from one turn of a conversation into the next.
- Where the text ends, a special token is among the boundaries. The student's own end of sequence is in no chunk; add
  `ce`, which learns it.

Shapes: B samples, S student tokens, T teacher tokens, X tokens of either side, K chunks, P positions that are read,
I boundary tokens.
"""

from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers import PreTrainedTokenizerBase

from schemas.configs.losses.alm import ALMConfig
from schemas.errors import RunError
from trainer.alignment.vocabulary import canonical_pieces
from trainer.data.batch import Batch
from trainer.data.target_ranges import TargetRanges
from trainer.data.tied_tokens import Spans, SpanSet
from trainer.numerics.geometry import ratio
from trainer.numerics.span_pooling import membership, span_mass
from trainer.objectives.context import LossContext
from trainer.objectives.kernels.next_token import next_token_logprobs, next_token_logprobs_of
from trainer.objectives.loss import Loss, Term
from trainer.objectives.parts.requirements import require_final, require_final_head
from trainer.student.states import StudentLogits, StudentStates

FLOOR = 1e-4


def log1mexp(x: Tensor) -> Tensor:
    """log(1 - e^x) for x < 0, to full precision at either end (Maechler, 2012)."""
    half = -0.6931471805599453
    # Each branch sees only what is its own: the other's slope may be infinite, and `where` would make it NaN.
    far, near = x.clamp_max(half), x.clamp_min(half)
    return torch.where(x < half, torch.log1p(-far.exp()), torch.log(-near.expm1()))


def binarised_divergence(
    log_p: Tensor, log_q: Tensor, divergence: Literal["kl", "reverse_kl", "tvd"], temperature: float
) -> Tensor:
    """tau D_f(Bernoulli(p^(1/tau)) || Bernoulli(q^(1/tau))) of likelihoods p (teacher) and q (student), elementwise:

    kl: a log(a / b) + (1 - a) log((1 - a) / (1 - b)), reverse_kl: a and b exchanged, tvd: |a - b|.
    """
    log_a, log_b = (log_p - FLOOR) / temperature, (log_q - FLOOR) / temperature
    if divergence == "tvd":
        return temperature * (log_a.expm1() - log_b.expm1()).abs()
    if divergence == "reverse_kl":
        log_a, log_b = log_b, log_a
    return temperature * (log_a.exp() * (log_a - log_b) - log_a.expm1() * (log1mexp(log_a) - log1mexp(log_b)))


def predicted(spans: SpanSet, mask_BS: Tensor, teacher_mask_BT: Tensor) -> SpanSet:
    """The spans of which every token has one before it; the masks say where a text begins, whatever the padding."""
    span_K = torch.arange(spans.mask_BK.shape[1], device=spans.mask_BK.device)
    sides = ((spans.student_BS, mask_BS), (spans.teacher_BT, teacher_mask_BT))
    first, teacher_first = (label_BX.gather(1, mask_BX.long().argmax(1, keepdim=True)) for label_BX, mask_BX in sides)
    return SpanSet(spans.student_BS, spans.teacher_BT, spans.mask_BK & (first != span_K) & (teacher_first != span_K))


def merged(spans: SpanSet, range_BK: Tensor, boundary_BK: Tensor, threshold: float) -> SpanSet:
    """Neighbouring spans joined until one ends where the teacher's probability of a boundary is above `threshold`, or
    where its target range ends; `range_BK` numbers the ranges, ascending."""
    ends_BK = spans.mask_BK & (boundary_BK > threshold)
    ends_BK[:, :-1] |= range_BK[:, :-1] != range_BK[:, 1:]
    group_BK = ends_BK.cumsum(1) - ends_BK.long()
    span_K1 = torch.arange(group_BK.shape[1], device=group_BK.device)[:, None]
    mask_BK = ((group_BK[:, None, :] == span_K1) & spans.mask_BK[:, None, :]).any(-1)
    group_BK = group_BK.masked_fill(~spans.mask_BK, -1)
    student_BS, teacher_BT = (
        torch.where(label_BX >= 0, group_BK.gather(1, label_BX.clamp_min(0)), -1)
        for label_BX in (spans.student_BS, spans.teacher_BT)
    )
    return SpanSet(student_BS, teacher_BT, mask_BK)


def span_ranges(spans: SpanSet, range_BT: Tensor) -> Tensor:
    """[B, K]: the target range of each span, which is that of its last token; of one without tokens, that of the one
    before it."""
    last_BK = last_token(spans.teacher_BT, torch.ones_like(spans.mask_BK))
    return range_BT.gather(1, last_BK).clamp_min(0).cummax(1).values


def last_token(label_BX: Tensor, mask_BK: Tensor) -> Tensor:
    """The position of each span's last token, [B, K]; 0 for one that does not count."""
    position_BX = torch.arange(label_BX.shape[1], device=label_BX.device).expand_as(label_BX)
    inside_BX = label_BX >= 0
    last_BK = torch.zeros_like(mask_BK, dtype=torch.long)
    last_BK.scatter_reduce_(1, label_BX.clamp_min(0), position_BX * inside_BX, "amax")
    return last_BK * mask_BK


def likelihoods(next_BX: Tensor, boundary_BX: Tensor, label_BX: Tensor, mask_BK: Tensor) -> Tensor:
    """log p of each span, [B, K]: the sum over its tokens, and of a boundary after the last. 0 if it does not count.

    `next_BX` and `boundary_BX` are by the position that predicts.
    """
    tokens_BK = span_mass(membership(label_BX, mask_BK), pad(next_BX[:, :-1], (1, 0)))
    return torch.where(mask_BK, tokens_BK + boundary_BX.gather(1, last_token(label_BX, mask_BK)), 0.0)


def boundary_tokens(tokenizer: PreTrainedTokenizerBase) -> Tensor:
    """Ids of tokens that can only come after the end of a word, [I] ascending: special ones, and those that begin with
    white space."""
    added = tokenizer.added_tokens_decoder.items()
    special = {*tokenizer.all_special_ids, *(token for token, content in added if content.special)}
    pieces = enumerate(canonical_pieces(tokenizer))
    spaced = {token for token, piece in pieces if piece is not None and piece[:1] in (b" ", b"\t", b"\n")}
    return torch.tensor(sorted(special | spaced), dtype=torch.long)


class ALM(Loss):
    """The divergence between chunk likelihoods, a mean over a sample's chunks. Any two tokenizers, causal teacher.

    `chunks`, how many a sample has after merging, is only reported: one or two mean that the threshold is too high.
    """

    student_I: Tensor | None
    teacher_I: Tensor | None

    def __init__(self, config: ALMConfig, context: LossContext):
        super().__init__(config)
        self.config, self.divisor = config, "sample"
        self.head = require_final_head(context, "alm", "Use mta, or sra with span_kd: 0")
        self.final = require_final(context, "alm", "targets")
        self.spans = Spans("aligned", "response")
        self.requests = frozenset([StudentLogits(), TargetRanges(), self.spans, self.final])
        boundaries: tuple[Tensor | None, Tensor | None] = (None, None)
        if config.debias_threshold is not None:
            student, teacher = context.student_tokenizer, context.teacher_tokenizer
            boundaries = _boundaries(student, "student"), _boundaries(teacher, "teacher")
        self.register_buffer("student_I", boundaries[0], persistent=False)
        self.register_buffer("teacher_I", boundaries[1], persistent=False)

    def forward(self, student: StudentStates, batch: Batch) -> dict[str, Term]:
        """`likelihood`, means over a sample's chunks summed over samples, and the number of `chunks`, unweighted."""
        chunks = predicted(batch[self.spans], batch.mask_BS, batch.teacher_mask_BT)
        next_BT, boundary_BT = self._teacher(batch, chunks)
        if self.config.debias_threshold is not None:
            last_BK = last_token(chunks.teacher_BT, chunks.mask_BK)
            range_BK = span_ranges(chunks, batch[TargetRanges()].teacher_BT)
            chunks = merged(chunks, range_BK, boundary_BT.gather(1, last_BK).exp(), self.config.debias_threshold)
        next_BS, boundary_BS = self._student(student, batch, chunks)
        log_q_BK = likelihoods(next_BS, boundary_BS, chunks.student_BS, chunks.mask_BK)
        log_p_BK = likelihoods(next_BT, boundary_BT, chunks.teacher_BT, chunks.mask_BK).to(log_q_BK.dtype)
        distance_BK = binarised_divergence(log_p_BK, log_q_BK, self.config.divergence, self.config.temperature)
        count_B = chunks.mask_BK.sum(1).to(distance_BK.dtype)
        return {
            "likelihood": Term(ratio((distance_BK * chunks.mask_BK).sum(1), count_B).sum()),
            "chunks": Term(count_B.sum(), 0.0),
        }

    @torch.no_grad()
    def _teacher(self, batch: Batch, chunks: SpanSet) -> tuple[Tensor, Tensor]:
        """log p of the next token and of a boundary, [B, T] each; 0 where no chunk reads them."""
        tokens_BT = batch.teacher_tokens_BT
        position_P = self._read(chunks.teacher_BT)
        found = next_token_logprobs(
            batch.teacher_logits(self.head, batch[self.final].flatten(0, 1)[position_P]),
            tokens_BT.roll(-1, dims=1).flatten()[position_P],
            self.teacher_I,
            len(self.head.weight_Vd),
            self.chunks,
        )
        next_BT, boundary_BT = (_at(position_P, values_P, tokens_BT) for values_P in found)
        return next_BT, boundary_BT

    def _student(self, student: StudentStates, batch: Batch, chunks: SpanSet) -> tuple[Tensor, Tensor]:
        """The same of the student, with gradient."""
        position_P = self._read(chunks.student_BS)
        token_P = batch.tokens_BS.roll(-1, dims=1).flatten()[position_P]
        logits_XV = student[StudentLogits()].flatten(0, 1)
        found = next_token_logprobs_of(logits_XV, position_P, token_P, self.student_I, self.chunks)
        next_BS, boundary_BS = (_at(position_P, values_P, batch.tokens_BS) for values_P in found)
        return next_BS, boundary_BS

    def _read(self, label_BX: Tensor) -> Tensor:
        """Where a token of a chunk is predicted, and, for the boundary after it, the token itself; [P], flattened."""
        inside_BX = label_BX >= 0
        read_BX = pad(inside_BX[:, 1:], (0, 1))
        if self.config.debias_threshold is not None:
            read_BX = read_BX | inside_BX
        return read_BX.flatten().nonzero().squeeze(1)


def _at(position_P: Tensor, values_P: Tensor, tokens_BX: Tensor) -> Tensor:
    flat_X = values_P.new_zeros(tokens_BX.numel())
    return flat_X.index_copy(0, position_P, values_P).view_as(tokens_BX)


def _boundaries(tokenizer: PreTrainedTokenizerBase, side: str) -> Tensor:
    found = boundary_tokens(tokenizer)
    if len(found) == 0:
        raise RunError(
            f"alm: no token of the {side}'s tokenizer begins with white space, and none is special: nothing marks "
            "where a word ends. Set debias_threshold: null"
        )
    return found


LOSS = ALM
