"""DSKD, dual-space knowledge distillation (arXiv 2406.17328): the teacher's states through the student's head, and the
student's through the teacher's, so that two distributions that are compared come from one head. Any two tokenizers.

    t2s_ce  -log p^{t->s}(x): the teacher's states, projected to the student's width, must predict the student's tokens;
            trains the projector (and the attention) alone
    t2s_kd  KL(p^{t->s} || q): the student learns what the projected teacher says, which gets no gradient
    s2t_kd  KL(p || q^{s->t}): the student's states, projected to the teacher's width, against the teacher's logits

With one tokenizer a state is projected as it is. With two, cross-model attention links every predicting position to
those of the other text: t2s projects N(h^T_t) + N(e^T_{t+1}) and s2t projects h^S_s, and the links carry them over.

Detached, as in the authors' code (songmzhang/DSKD, code/criterions): both heads and both embeddings, always; p^{t->s}
in t2s_kd. So the student's unembedding learns from its own logits alone. Sums are divided by the student's tokens (with
one tokenizer, by the pairs), s2t_kd too, which runs over the teacher's. The KLs are forward ones; the authors' code
also offers reverse, skewed, adaptive and Jensen-Shannon divergences for t2s_kd.

Costs, beyond CE and the attention: three [tokens, d] x [d, V] products with the student's unembedding and three with
the teacher's, gradients included. Logits live a chunk of rows at a time; all of their size that is kept is one matrix
like the student's logits, the gradient of t2s_kd.

Decisions where the paper is silent:
- N divides by the standard deviation over a sample's predicting positions; see `over_deviation`.
- Positions that predict any of several targets are one set: attention learns which of the other text's each stands for.
- A sample with targets on one side alone has nothing to link them to, and adds nothing.
- The student's head is its unembedding with what it does to logits: a bias, a scale, a soft-cap.
- An end of sequence that the teacher was not fed is a target on the student's side alone: extract with append_eos.

Shapes: B samples, S student tokens, T teacher tokens, P student rows, Q rows of either side; V vocabulary; d_S and d_T
wide, as suffixes d and e; n rows of one chunk.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from schemas.configs.losses.dskd import DSKDConfig
from schemas.errors import RunError
from trainer.data.batch import Batch
from trainer.data.teacher_states import TeacherHidden
from trainer.data.tied_tokens import SameTokenPositions
from trainer.numerics.geometry import at_least_float32
from trainer.objectives.context import LossContext
from trainer.objectives.kernels.chunks import Chunks, chunks_for, slices
from trainer.objectives.kernels.forward_kl import forward_kl
from trainer.objectives.kernels.pooled_rows import Columns, Rows
from trainer.objectives.loss import Loss, Request, Term
from trainer.objectives.parts.cross_attention import CrossModelAttention, attend, following, over_deviation, projector
from trainer.objectives.parts.requirements import require_head, require_hidden
from trainer.student.states import StudentEmbedding, StudentHidden, StudentLogits, StudentStates, StudentUnembedding

Head = Callable[[Tensor], Tensor]  # states [n, d] -> logits [n, V]


def head_cross_entropy(
    hidden_Pd: Tensor, target_P: Tensor, head: Head, vocabulary: int, chunks: Chunks | None = None
) -> tuple[Tensor, Tensor]:
    """sum_p -log softmax(head(h_p))[x_p] in nats, and whether x_p is the likeliest token, [P] bool."""
    right_P = torch.zeros_like(target_P, dtype=torch.bool)

    def of_chunk(hidden_nd: Tensor, rows: slice) -> Tensor:
        logits_nV, target_n = head(hidden_nd), target_P[rows]
        right_P[rows] = logits_nV.detach().argmax(-1) == target_n
        return F.cross_entropy(logits_nV, target_n, reduction="sum")

    return _sum_over_chunks(hidden_Pd, of_chunk, vocabulary, chunks), right_P


def head_forward_kl(
    student_Qe: Tensor,
    teacher_Qe: Tensor,
    head: Head,
    vocabulary: int,
    temperature: float,
    chunks: Chunks | None = None,
) -> Tensor:
    """sum_q KL(softmax(head(t_q) / tau) || softmax(head(s_q) / tau)), with a gradient to the student's states alone."""

    def of_chunk(student_ne: Tensor, rows: slice) -> Tensor:
        with torch.no_grad():
            log_p_nV = (head(teacher_Qe[rows]) / temperature).log_softmax(-1)
        log_q_nV = (head(student_ne) / temperature).log_softmax(-1)
        return F.kl_div(log_q_nV, log_p_nV, reduction="sum", log_target=True)

    return _sum_over_chunks(student_Qe, of_chunk, vocabulary, chunks)


def _sum_over_chunks(
    states_Pd: Tensor, of_chunk: Callable[[Tensor, slice], Tensor], vocabulary: int, chunks: Chunks | None
) -> Tensor:
    """The sum of a loss over chunks of rows; its gradient to the states can be asked for once."""
    size = chunks_for(states_Pd, chunks).rows // vocabulary
    total: Tensor = _SumOverChunks.apply(states_Pd, of_chunk, size)
    return total


class _SumOverChunks(torch.autograd.Function):
    """Takes the gradient of each chunk as soon as its loss is known: logits never outlive their chunk, nor are they
    computed twice, and what waits for the backward pass is as wide as a state."""

    @staticmethod
    def forward(ctx: Any, states_Pd: Tensor, of_chunk: Callable[[Tensor, slice], Tensor], size: int) -> Tensor:
        """The sum of `of_chunk` over the states [P, d], `size` rows at a time. A scalar."""
        wanted = ctx.needs_input_grad[0]
        ctx.gradient_Pd = torch.empty_like(states_Pd) if wanted else None
        total = states_Pd.new_zeros(())
        for rows in slices(0, len(states_Pd), size):
            with torch.set_grad_enabled(wanted):
                states_nd = states_Pd[rows].detach().requires_grad_(wanted)
                loss = of_chunk(states_nd, rows)
                if wanted:
                    (ctx.gradient_Pd[rows],) = torch.autograd.grad(loss, states_nd)
            total += loss.detach()
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor, None, None]:
        gradient_Pd, ctx.gradient_Pd = ctx.gradient_Pd, None
        if gradient_Pd is None:
            raise RuntimeError("the gradient was handed over already; compute the loss again")
        return gradient_Pd.mul_(upstream), None, None


class DSKD(Loss):
    """student_space * (t2s_ce + t2s_kd) + teacher_space * s2t_kd, each a sum over tokens by the student's tokens.

    `t2s_acc`, the share of tokens that the projected teacher gets right, is only reported: t2s_kd is worth as much.
    """

    embedding_Ve: Tensor

    def __init__(self, config: DSKDConfig, context: LossContext):
        super().__init__(config)
        self.config, self.same_tokenizer = config, context.same_tokenizer
        self.divisor = "pair" if self.same_tokenizer else "token"
        self.head = require_head(context, "dskd", "Use sra with span_kd: 0")
        self.student_logits = context.student.logits
        self.hidden, self.student_hidden = self._last_layers(context)
        self.masks_wrong = config.mask_wrong == "always" or (config.mask_wrong == "auto" and not self.same_tokenizer)
        width, teacher_width = context.student.width, context.manifest.teacher.hidden_size
        if config.student_space > 0:
            self.t2s = projector(teacher_width, width, config.projectors)
        if config.teacher_space > 0:
            self.s2t = projector(width, teacher_width, config.projectors)
        if not self.same_tokenizer:
            self.register_buffer("embedding_Ve", _teacher_embedding(context), persistent=False)
            self.attention = CrossModelAttention(width, teacher_width, config.projectors)
        self.requests = self._requests(context)

    @staticmethod
    def _last_layers(context: LossContext) -> tuple[TeacherHidden, StudentHidden]:
        return TeacherHidden(context.manifest.teacher.num_layers, "targets"), StudentHidden(context.student.layers)

    def _requests(self, context: LossContext) -> frozenset[Request]:
        requests: set[Request] = {StudentLogits(), StudentUnembedding()}
        requests |= require_hidden(context, [self.hidden.layer], "dskd", "targets")
        requests.add(SameTokenPositions() if self.same_tokenizer else StudentEmbedding())
        if self.config.teacher_space > 0:
            requests.add(self.student_hidden)
        return frozenset(requests)

    def forward(self, student: StudentStates, batch: Batch) -> dict[str, Term]:
        """`t2s_ce`, `t2s_kd`, `t2s_acc` of the student's space and `s2t_kd` of the teacher's, sums over tokens.

        With one tokenizer they pair positions; else cross-model attention links them (arXiv 2406.17328).
        """
        return self._one_to_one(student, batch) if self.same_tokenizer else self._across(student, batch)

    def _one_to_one(self, student: StudentStates, batch: Batch) -> dict[str, Term]:
        where_BS = batch.shared_predictions()
        sample_P, position_P = where_BS.nonzero(as_tuple=True)
        teacher_Pe = batch[self.hidden][sample_P, batch[SameTokenPositions()][sample_P, position_P]]
        terms: dict[str, Term] = {}
        if self.config.student_space > 0:
            terms |= self._student_space(student, batch, where_BS, self.t2s(teacher_Pe))
        if self.config.teacher_space > 0:
            hidden_Pd = at_least_float32(student[self.student_hidden])[where_BS]
            terms |= self._teacher_space(self.s2t(hidden_Pd), teacher_Pe)
        return terms

    def _across(self, student: StudentStates, batch: Batch) -> dict[str, Term]:
        predicts_BS, teacher_predicts_BT = following(batch.target_BS), following(batch.teacher_target_BT)
        linked_B1 = (predicts_BS.any(1) & teacher_predicts_BT.any(1))[:, None]
        where_BS, where_BT = predicts_BS & linked_B1, teacher_predicts_BT & linked_B1
        teacher_BTe = batch[self.hidden]
        embedded_BTe = self.embedding_Ve[batch.teacher_tokens_BT].to(teacher_BTe.dtype)
        score_BST = self.attention(self._embed(student, batch), embedded_BTe, where_BT)
        terms: dict[str, Term] = {}
        if self.config.student_space > 0:
            said_BTe = over_deviation(teacher_BTe, where_BT) + over_deviation(following(embedded_BTe), where_BT)
            carried_BSd = attend(score_BST, where_BT) @ self.t2s(said_BTe)
            terms |= self._student_space(student, batch, where_BS, carried_BSd[where_BS])
        if self.config.teacher_space > 0:
            hidden_BSd = at_least_float32(student[self.student_hidden])
            carried_BTe = attend(score_BST.mT, where_BS) @ self.s2t(hidden_BSd)
            terms |= self._teacher_space(carried_BTe[where_BT], teacher_BTe[where_BT])
        return terms

    @torch.no_grad()
    def _embed(self, student: StudentStates, batch: Batch) -> Tensor:
        embedded_BSd = at_least_float32(student[StudentEmbedding()](batch.tokens_BS))
        width = self.attention.query.in_features // 2
        if embedded_BSd.shape[-1] != width:
            raise RunError(
                f"dskd: the student's embeddings are {embedded_BSd.shape[-1]} wide and its states {width}, so its "
                "tokens cannot be linked to the teacher's. Use sra, which aligns spans"
            )
        return embedded_BSd

    def _student_space(self, student: StudentStates, batch: Batch, where_BS: Tensor, t2s_Pd: Tensor) -> dict[str, Term]:
        """The terms over student rows `where_BS`, of the teacher in the student's width."""
        unembedding = student[StudentUnembedding()]
        weight_Vd = at_least_float32(unembedding.weight.detach())
        bias_V = None if unembedding.bias is None else at_least_float32(unembedding.bias.detach())

        def head(hidden_nd: Tensor) -> Tensor:
            return self.student_logits(F.linear(hidden_nd, weight_Vd, bias_V))

        target_P = following(batch.tokens_BS)[where_BS]
        nll, right_P = head_cross_entropy(t2s_Pd, target_P, head, len(weight_Vd), self.chunks)
        kept_P = right_P if self.masks_wrong else torch.ones_like(right_P)
        position_P, said_Pd = where_BS.flatten().nonzero().squeeze(1)[kept_P], t2s_Pd.detach()[kept_P]
        one_P = torch.ones(len(position_P), device=position_P.device)
        rows = Rows(position_P, torch.arange(len(position_P), device=position_P.device), one_P, len(position_P))
        kl = forward_kl(
            student[StudentLogits()].flatten(0, 1),
            rows,
            Columns(len(weight_Vd)),
            lambda chunk: head(said_Pd[chunk]) / self.config.temperature,
            one_P,
            self.config.temperature,
            chunks=self.chunks,
        )
        weight = self.config.student_space
        return {
            "t2s_ce": Term(nll, weight),
            "t2s_kd": Term(kl, weight),
            "t2s_acc": Term(right_P.sum(), 0.0),
        }

    def _teacher_space(self, s2t_Qe: Tensor, teacher_Qe: Tensor) -> dict[str, Term]:
        """The term over rows where the teacher predicts a target, of the student in the teacher's width."""
        vocabulary = len(self.head.weight_Vd)
        kl = head_forward_kl(s2t_Qe, teacher_Qe, self.head, vocabulary, self.config.temperature, self.chunks)
        return {"s2t_kd": Term(kl, self.config.teacher_space)}

    def parameter_groups(self) -> list[dict[str, object]]:
        """One group: projectors and attention, at the rate and decay of `projectors`."""
        decay = {"weight_decay": self.config.projectors.weight_decay}
        return [{"params": list(self.parameters()), "lr": self.config.projectors.lr} | decay]


def _teacher_embedding(context: LossContext) -> Tensor:
    """[V_T, d_T] float32. Raises RunError: not in the cache, or of another width than the states they are added to."""
    embedding_Vd = context.embedding_Vd
    if embedding_Vd is None:
        raise RunError(
            "dskd links the tokens of two tokenizers by the teacher's input embeddings, and the cache does not keep "
            "them. Extract into a new output with teacher.keep_embeddings: true, or give the student the tokenizer "
            "'teacher'"
        )
    teacher, width = context.manifest.teacher, embedding_Vd.shape[1]
    if width != teacher.hidden_size:
        raise RunError(
            f"dskd adds the teacher's input embeddings to its states, and {teacher.model} has embeddings "
            f"{width} wide and states {teacher.hidden_size}. Use sra, or give the student the tokenizer 'teacher'"
        )
    return embedding_Vd.float()


LOSS = DSKD
