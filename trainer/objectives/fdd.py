"""FDD, feature dynamics distillation (Gong et al., "Beyond Logits", ACL 2025 long 1125): what every key layer would
predict if it were the last, and how that prediction changes from key layer to key layer. One tokenizer, causal teacher.

Costs, beyond CE, for M key layers: M products [tokens, d_T] x [d_T, V] of the teacher, and M - 1 of the student's with
twice as much again for their gradient; the last layer's logits are there already. Tokens are taken a chunk at a time,
and the gradient is computed on the way: what waits for the backward pass is one matrix like each student state, one
like W_U^S and one like the logits. On a CPU, with M = 3, V = 32,000 and 400 tokens, it takes 0.6 of the time and 0.3 of
the memory of plain autograd; checkpointing each chunk takes more of both than this does.

Decisions, all but the last as wind123mountain/MTA @ 37298fc has them, a baseline of MTA's authors (FDD's own have
published no code):
- The trajectory's KL at temperature tau is not multiplied by tau^2; the derivative's log-probabilities are at tau = 1.
- An intermediate state meets the unembedding as it is, without the final norm. Either model's head scales and soft-caps
  it as it does a final state.
- Both terms are means over key layers, or over pairs of adjacent ones.
- Vocabularies are padded to round sizes: all is over the tokens that both have, the first min(V_S, V_T).

Shapes: B samples, S student tokens, X all B * S of them, P paired positions, M key layers, V student vocabulary,
N compared tokens, d_S wide; n positions of one chunk.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from schemas.cache.token_rows import KeptRows
from schemas.configs.losses.fdd import FDDConfig
from schemas.errors import RunError
from schemas.models.logits import LogitTransform
from trainer.data.batch import Batch
from trainer.data.teacher_states import TeacherHidden
from trainer.data.tied_tokens import SameTokenPositions
from trainer.numerics.geometry import at_least_float32, cosine_distance
from trainer.objectives.context import LossContext
from trainer.objectives.kernels.chunks import Chunks, chunks_for, slices
from trainer.objectives.kernels.logit_pass import LogitPass
from trainer.objectives.loss import Loss, Term
from trainer.objectives.parts.layer_pairs import layer_pairs
from trainer.objectives.parts.requirements import (
    require_final,
    require_final_head,
    require_head,
    require_hidden,
    require_same_tokenizer,
)
from trainer.student.logits import Logits, as_logits
from trainer.student.states import StudentHidden, StudentLogits, StudentStates, StudentUnembedding


def dynamics(student_MnN: Tensor, teacher_MnN: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Trajectory and derivative, each a sum over positions:

        mean_l KL(softmax(z^T_l / tau) || softmax(z^S_l / tau))
        mean_l 1 - cos(log p^T_{l+1} - log p^T_l, log p^S_{l+1} - log p^S_l),  p = softmax(z)

    One layer alone has no derivative, 0. A prediction that does not change has no direction, and its cosine is 0.
    """
    layers = len(student_MnN)
    log_q_MnN, log_p_MnN = ((z_MnN / temperature).log_softmax(-1) for z_MnN in (student_MnN, teacher_MnN))
    trajectory = (log_p_MnN.exp() * (log_p_MnN - log_q_MnN)).sum() / layers
    change_S, change_T = (z_MnN.log_softmax(-1).diff(dim=0) for z_MnN in (student_MnN, teacher_MnN))
    return trajectory, cosine_distance(change_S, change_T).sum() / max(1, layers - 1)


@dataclass(frozen=True)
class Comparison:
    """The settings of a comparison: what the student is compared with, where, and how much each term counts."""

    position_P: Tensor  # long, without repeats, into the X positions of the student
    teacher_logits: Callable[[int, slice], Tensor]  # of a key layer, at a slice of the P positions: [n, V_T]
    num_compared: int  # N
    temperature: float
    weights: tuple[float, float]  # of trajectory and derivative
    student_logits: LogitTransform = LogitTransform()  # noqa: RUF009 - frozen
    # Of one side's logits over all key layers, of which some ten exist at once. Every chunk reads W_U and adds to its
    # gradient, which pays only if many tokens share it.
    chunks: Chunks | None = None

    def against(self, student_MnN: Tensor, chunk: slice) -> tuple[Tensor, Tensor]:
        """Both terms over a chunk, [2], and the gradient of their weighted sum to the student's logits, [M, n, N]."""
        logits = [self.teacher_logits(layer, chunk)[:, : self.num_compared] for layer in range(len(student_MnN))]
        teacher_MnN = torch.stack(logits).to(student_MnN.dtype)
        with torch.enable_grad():
            trajectory, derivative = dynamics(student_MnN.requires_grad_(), teacher_MnN, self.temperature)
            weighted = self.weights[0] * trajectory + self.weights[1] * derivative
            (gradient_MnN,) = torch.autograd.grad(weighted, student_MnN)
        return torch.stack([trajectory, derivative]).detach(), gradient_MnN


def feature_dynamics(
    comparison: Comparison, unembedding: nn.Linear, states: Sequence[Tensor], logits: Tensor | Logits | None
) -> tuple[Tensor, Tensor, Tensor]:
    """The weighted sum of trajectory and derivative over all positions, and the two by themselves, without gradient.

    `states` are the student's key layers [X, d_S], ascending; the last layer, whose predictions are `logits`, [..., V],
    is not among them. The gradient, to states, logits, W_U and its bias, can be asked for once.
    """
    of = None if logits is None else as_logits(logits)
    made_of = (None, None, None) if of is None else (of.hidden, of.weight_Vd, of.bias_V)
    total, terms = _FeatureDynamics.apply(comparison, of, unembedding.weight, unembedding.bias, *made_of, *states)
    return total, terms[0], terms[1]


class _FeatureDynamics(torch.autograd.Function):
    """Makes both terms and their gradients chunk by chunk, so that no logits wait for the backward pass."""

    @staticmethod
    def forward(
        ctx: Any,
        comparison: Comparison,
        final: Logits | None,
        weight_Vd: Tensor,
        bias_V: Tensor | None,
        hidden: Tensor | None,
        head_Vd: Tensor | None,
        head_bias_V: Tensor | None,
        *states: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """The weighted total, a scalar, and the two terms [2], which carry no gradient."""
        width, layers = comparison.num_compared, len(states) + (final is not None)
        weight_Nd = at_least_float32(weight_Vd[:width])
        bias_N = None if bias_V is None else at_least_float32(bias_V[:width])
        of_weight_Vd = torch.zeros_like(weight_Vd, dtype=weight_Nd.dtype)
        of_bias_V = torch.zeros_like(of_weight_Vd[:, 0])
        # In float32 until they are scaled: what is rounded to bfloat16 is rounded once.
        made_of = (hidden, head_Vd, head_bias_V)
        made = None
        if final is not None and hidden is not None:
            made = LogitPass(final.made_of(hidden, head_Vd, head_bias_V), ctx.needs_input_grad[4:7])
        of_states = [torch.zeros_like(state_Xd, dtype=weight_Nd.dtype) for state_Xd in states]
        terms = weight_Nd.new_zeros(2)
        size = chunks_for(weight_Vd, comparison.chunks).rows // (layers * width)
        for chunk in slices(0, len(comparison.position_P), size):
            position_n = comparison.position_P[chunk]
            states_nd = [at_least_float32(state_Xd[position_n]) for state_Xd in states]
            transform = comparison.student_logits
            logits = [transform(nn.functional.linear(state_nd, weight_Nd, bias_N)) for state_nd in states_nd]
            final_nV = None if made is None else made.rows(position_n)
            if final_nV is not None:
                logits.append(final_nV[:, :width])
            chunk_terms, gradient_MnN = comparison.against(torch.stack(logits), chunk)
            terms += chunk_terms
            if made is not None and final_nV is not None:
                made.put(position_n, final_nV, nn.functional.pad(gradient_MnN[-1], (0, final_nV.shape[1] - width)))
            for gradient_nN, logits_nN, state_nd, of_state_Xd in zip(
                gradient_MnN, logits, states_nd, of_states, strict=False
            ):
                gradient_nN = transform.backward(gradient_nN, logits_nN)
                of_state_Xd[position_n] = gradient_nN @ weight_Nd
                of_weight_Vd[:width].addmm_(gradient_nN.T, state_nd)
                of_bias_V[:width] += gradient_nN.sum(0)
        of_final = [None] * 3 if made is None else made.gradients()
        ctx.gradients = [of_weight_Vd, None if bias_V is None else of_bias_V, *of_final, *of_states]
        ctx.like = [None if x is None else (x.shape, x.dtype) for x in (weight_Vd, bias_V, *made_of, *states)]
        ctx.mark_non_differentiable(terms)
        return torch.dot(terms, terms.new_tensor(comparison.weights)), terms

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        gradients, ctx.gradients = ctx.gradients, None
        if gradients is None:
            raise RuntimeError("the gradient of feature_dynamics was handed over already; compute the loss again")
        scaled = (None if gradient is None else gradient.mul_(upstream) for gradient in gradients)
        shaped = (None if x is None else x.view(like[0]).to(like[1]) for x, like in zip(scaled, ctx.like, strict=True))
        return None, None, *shaped


class FDD(Loss):
    """trajectory * L_traj + derivative * L_der, means over the response positions that student and teacher share.

    `dynamics` is both, weighted, and what is learned from; `trajectory` and `derivative` are only reported.
    """

    narrower = "set fdd.positions: response"

    def __init__(self, config: FDDConfig, context: LossContext):
        super().__init__(config)
        self.config, self.divisor = config, "pair" if config.positions == "response" else "shared"
        require_same_tokenizer(
            context, "fdd", "Use mta, which aligns words and phrases, or give the student the tokenizer 'teacher'"
        )
        self.head = require_head(context, "fdd", "Use mta, which compares states")
        self.final_head = require_final_head(context, "fdd", "Use mta, which compares states")
        self.key_layers = layer_pairs(config.student_layers, config.teacher_layers, context, "fdd")
        if len(self.key_layers) == 1 and config.derivative > 0:
            raise RunError("fdd: one key layer alone does not change. Give student_layers two, or set derivative: 0")
        self.last, self.student_logits = context.student.layers, context.student.logits
        teacher_layers, last = [teacher for _, teacher in self.key_layers], context.manifest.teacher.num_layers
        rows: KeptRows = "targets" if config.positions == "response" else "all"
        require_hidden(context, teacher_layers, "fdd", rows)
        self.of_teacher = [
            require_final(context, "fdd", rows) if layer == last else TeacherHidden(layer, rows)
            for layer in teacher_layers
        ]
        self.heads = [self.final_head if layer == last else self.head for layer in teacher_layers]
        inner = (StudentHidden(student) for student, _ in self.key_layers if student != self.last)
        of_student = (StudentLogits(), StudentUnembedding(), *inner)
        self.requests = frozenset([SameTokenPositions(), *self.of_teacher, *of_student])

    def forward(self, student: StudentStates, batch: Batch) -> dict[str, Term]:
        """`dynamics`, what is learned from, and its two parts, unweighted: sums over the positions compared.

        Raises RunError if the student's inner states do not fit its unembedding.
        """
        where_BS = batch.shared_predictions() if self.config.positions == "response" else batch.shared_tokens()
        sample_P, position_P = where_BS.nonzero(as_tuple=True)
        teacher_P = batch[SameTokenPositions()][sample_P, position_P]
        logits_BSV, unembedding = student[StudentLogits()], student[StudentUnembedding()]

        def teacher_logits(layer: int, chunk: slice) -> Tensor:
            hidden_BTd = batch[self.of_teacher[layer]]
            logits: Tensor = self.heads[layer](hidden_BTd[sample_P[chunk], teacher_P[chunk]])
            return logits

        comparison = Comparison(
            position_P=sample_P * batch.tokens_BS.shape[1] + position_P,
            teacher_logits=teacher_logits,
            num_compared=min(logits_BSV.shape[-1], len(self.head.weight_Vd)),
            temperature=self.config.temperature,
            weights=(self.config.trajectory, self.config.derivative),
            student_logits=self.student_logits,
            chunks=self.chunks,
        )
        layers = [layer for layer, _ in self.key_layers]
        states = [student[StudentHidden(layer)].flatten(0, 1) for layer in layers if layer != self.last]
        for state_Xd in states:
            if state_Xd.shape[1] != unembedding.in_features:
                raise RunError(
                    f"fdd: the student's states are {state_Xd.shape[1]} wide and its unembedding takes "
                    f"{unembedding.in_features}: its inner layers predict nothing. Use mta instead"
                )
        final = logits_BSV if self.last in layers else None
        total, trajectory, derivative = feature_dynamics(comparison, unembedding, states, final)
        return {
            "dynamics": Term(total),
            "trajectory": Term(trajectory, 0.0),
            "derivative": Term(derivative, 0.0),
        }


LOSS = FDD
