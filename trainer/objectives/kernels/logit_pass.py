"""A pass over a student's logits that makes them, and sends their gradient back through the head, some rows at a time.

A loss that is a weighted sum knows the gradient of a row as soon as it knows the row's value. So both products with the
gradient, G W_U and G^T H, are taken at once, and what waits for the backward pass is as wide as a state: [X, d_S] and
[V, d_S], in float32 or more until it is scaled. It takes the three products of a linear layer, none of them twice.

Shapes: X student positions, V vocabulary, d_S wide; p positions of one chunk.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from schemas.models.aligned_rows import cast_rows, head_product, rows_without_gaps
from schemas.models.logits import LogitTransform
from trainer.numerics.geometry import at_least_float32
from trainer.student.logits import Logits, as_logits

ROUNDING = 1e-6  # of a factor, multiplied up in another order
# Whether torch can add a product of bfloat16 to a sum of float32 as it makes it: from 2.8 on, and on a GPU alone.
ADDS_WIDER = hasattr(torch.ops.aten.addmm, "dtype_out")


class LogitPass:
    """Rows of logits, and the gradient to what they are made of while it is being written."""

    def __init__(self, logits: Logits, wanted: Sequence[bool] = (False, False, False)):
        """`wanted`: whether states, head and bias get a gradient."""
        self._logits = logits
        self.hidden_Xd = logits.hidden.detach().flatten(0, -2)
        self.dtype = logits.product or logits.dtype
        self.weight_Vd, self.bias_V = (
            None if x is None else x.detach().to(self.dtype) for x in (logits.weight_Vd, logits.bias_V)
        )
        self.vocabulary = logits.shape[-1]
        self.of_hidden_Xd, self.of_weight_Vd, self.of_bias_V = (
            torch.zeros(x.shape, dtype=torch.promote_types(x.dtype, torch.float32), device=x.device)
            if want and x is not None
            else None
            for want, x in zip(wanted, (self.hidden_Xd, logits.weight_Vd, logits.bias_V), strict=True)
        )

    @property
    def wants_gradient(self) -> bool:
        """Whether anything gets a gradient."""
        return any(x is not None for x in (self.of_hidden_Xd, self.of_weight_Vd, self.of_bias_V))

    @property
    def needs_logits(self) -> bool:
        """Whether `put` reads the logits themselves, which must then be as `rows` gave them."""
        return self.weight_Vd is not None and self._logits.transform.softcap is not None

    def zero(self) -> Tensor:
        """A scalar 0 in the dtype that losses are summed in."""
        return at_least_float32(self.hidden_Xd.new_zeros(()))

    def rows(self, positions: slice | Tensor) -> Tensor:
        """[p, V] in float32 or more; of a student without a head a view, where that can be."""
        hidden_pd = self.hidden_Xd[positions]
        if self.weight_Vd is None:
            return rows_without_gaps(at_least_float32(hidden_pd))
        product_pV = at_least_float32(head_product(hidden_pd.to(self.dtype), self.weight_Vd, self.bias_V))
        return self._logits.transform(product_pV)

    def product(self, positions: slice | Tensor) -> Tensor:
        """The same, [p, V], but in the dtype that the head multiplies in, where nothing is done to its product."""
        if self.weight_Vd is None or self._logits.transform != LogitTransform():
            return self.rows(positions)
        return head_product(self.hidden_Xd[positions].to(self.dtype), self.weight_Vd, self.bias_V)

    def room(self, logits_pV: Tensor) -> Tensor:
        """Where the gradient to such rows may be written: over them, which are in the processor's cache, unless `put`
        reads them or they are a view."""
        return torch.empty_like(logits_pV) if self.weight_Vd is None or self.needs_logits else logits_pV

    def put(self, positions: slice | Tensor, logits_pV: Tensor, gradient_pV: Tensor) -> None:
        """Adds the gradient to rows that `rows` gave; positions come once each."""
        if self.weight_Vd is None:
            if self.of_hidden_Xd is not None:
                self.of_hidden_Xd[positions] = gradient_pV.to(self.of_hidden_Xd.dtype)
            return
        gradient_pV = self._logits.transform.backward(gradient_pV, logits_pV)
        if self.of_bias_V is not None:
            self.of_bias_V += gradient_pV.sum(0, dtype=self.of_bias_V.dtype)
        gradient_pV = cast_rows(gradient_pV, self.dtype)
        if self.of_hidden_Xd is not None:
            self.of_hidden_Xd[positions] = (gradient_pV @ self.weight_Vd).to(self.of_hidden_Xd.dtype)
        if self.of_weight_Vd is not None:
            _add_product(self.of_weight_Vd, gradient_pV.T, self.hidden_Xd[positions].to(self.dtype))

    def gradients(self) -> list[Tensor | None]:
        """To states [X, d_S], head and bias, as far as they are wanted, in float32 or more."""
        return [self.of_hidden_Xd, self.of_weight_Vd, self.of_bias_V]

    def gradients_like(self, made_of: Sequence[Tensor | None]) -> list[Tensor | None]:
        """The same in the shapes and dtypes of states, head and bias."""
        return [
            None if x is None or gradient is None else gradient.view(x.shape).to(x.dtype)
            for gradient, x in zip(self.gradients(), made_of, strict=True)
        ]


def _add_product(sum_Vd: Tensor, gradient_Vp: Tensor, hidden_pd: Tensor) -> None:
    if sum_Vd.dtype == gradient_Vp.dtype:
        sum_Vd.addmm_(gradient_Vp, hidden_pd)
    elif ADDS_WIDER and sum_Vd.is_cuda and sum_Vd.dtype == torch.float32 and gradient_Vp.dtype.itemsize == 2:
        torch.addmm(sum_Vd, gradient_Vp, hidden_pd, sum_Vd.dtype, out=sum_Vd)
    else:
        sum_Vd.add_(gradient_Vp @ hidden_pd)


Run = Callable[[LogitPass], Sequence[Tensor]]


def pass_over(logits: Tensor | Logits, run: Run, expected: Sequence[float]) -> tuple[Tensor, ...]:
    """The scalars that `run` computes over `logits`, with a gradient to states, head and bias that can be asked for
    once.

    `run` puts the gradient of their sum, each multiplied with the factor in `expected`. All scalars must be
    backpropagated at one multiple of these factors, because one matrix holds the gradient of all: else a RuntimeError.
    """
    of = as_logits(logits)
    scalars: tuple[Tensor, ...] = _Pass.apply(of, run, tuple(expected), of.hidden, of.weight_Vd, of.bias_V)
    return scalars


class _Pass(torch.autograd.Function):
    """Scalars whose gradient is made with them."""

    @staticmethod
    def forward(
        ctx: Any,
        logits: Logits,
        run: Run,
        expected: tuple[float, ...],
        hidden: Tensor,
        weight_Vd: Tensor | None,
        bias_V: Tensor | None,
    ) -> tuple[Tensor, ...]:
        """What `run` gives."""
        inputs = (hidden, weight_Vd, bias_V)
        made = LogitPass(logits.made_of(*inputs), ctx.needs_input_grad[3:])
        scalars = tuple(run(made))
        ctx.gradients, ctx.expected = made.gradients(), expected
        ctx.like = [None if x is None else (x.shape, x.dtype) for x in inputs]
        ctx.set_materialize_grads(False)
        return scalars

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *upstream: Tensor | None) -> tuple[Tensor | None, ...]:
        """Hands the gradient over once. Raises RuntimeError if asked again, or for some of the values only."""
        gradients, ctx.gradients = ctx.gradients, None
        if gradients is None:
            raise RuntimeError("the gradient of this pass was handed over already; compute the loss again")
        given = [x for x in upstream if x is not None]
        if len(given) != len(ctx.expected):
            raise RuntimeError("a pass carries cross-entropy: both values are part of what is backpropagated")
        scales = [x / factor for x, factor in zip(given, ctx.expected, strict=True)]
        if not scales[0].is_cuda:
            _require_same(scales)
        if scales[0].is_cuda or abs(float(scales[0]) - 1) > ROUNDING:  # on a GPU, asking would mean waiting
            for gradient in gradients:
                if gradient is not None:
                    gradient.mul_(scales[0])
        shaped = (
            None if gradient is None else gradient.view(like[0]).to(like[1])
            for gradient, like in zip(gradients, ctx.like, strict=True)
        )
        return None, None, None, *shaped


def _require_same(scales: Sequence[Tensor]) -> None:
    first = float(scales[0])
    for scale in scales[1:]:
        if abs(first - float(scale)) > ROUNDING * abs(first):
            raise RuntimeError(
                f"cross-entropy was carried at {float(first / scale):.6g} of the scale that it is backpropagated "
                "with: the objective and `CarriedCrossEntropy` must have the same weights and counts"
            )
