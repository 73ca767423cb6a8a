"""Adaptive sharpness-aware minimisation: the gradient is taken at the worst weights nearby, and applied to the weights.

Kwon et al., ASAM (arXiv 2102.11600), for p = 2 and element-wise normalisation:

    eps = rho * T_w^2 g / ||T_w g||,   T_w = diag(|w| + eta),   so that ||T_w^-1 eps|| = rho

over all trained parameters as one vector, the losses' own among them. Biases have T_w = 1, as in the authors' code
(they call it ASAM "without bias normalisation"), unless `scale_biases` is set; norm scales are weights. Costs a second
forward and backward pass of the whole step, and a copy of the weights and of the gradient while it runs.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from schemas.configs.training import SharpnessConfig
from trainer.optimisation.gradients import norm_of
from trainer.optimisation.random_state import generator_states, set_generator_states

Accumulate = Callable[[], tuple[float, dict[str, float]]]
Gradient = Mapping[nn.Parameter, Tensor | None]


class Sharpness:
    """Stands between the gradient of a step and the optimiser, of which it knows nothing."""

    def __init__(self, config: SharpnessConfig, named: Iterable[tuple[str, nn.Parameter]], skipped: int = 0):
        """`named`: all trained parameters. `skipped`: steps of this run that went without a perturbation so far."""
        self.config, self.skipped = config, skipped
        self._is_plain = {
            weight: not config.scale_biases and name.rpartition(".")[2] == "bias"
            for name, weight in named
            if weight.requires_grad
        }

    def gradient(self, accumulate: Accumulate) -> tuple[float, dict[str, float]]:
        """Leave the gradient at w + eps in the parameters, and the parameters as they were, bit for bit.

        `accumulate` adds the gradient of the whole step and returns its loss and terms; it is called at w, and again at
        w + eps with the same random numbers. What is returned is the loss at w, and two terms more: `sharpness/rise`,
        the loss at w + eps less that at w, and `sharpness/skipped`, the steps so far that took the plain gradient,
        because its norm was 0 or not finite, or because the perturbed one was not finite.
        """
        start = generator_states()
        loss, terms = accumulate()
        plain = {weight: weight.grad for weight in self._is_plain}
        rise = math.nan
        with self._perturbed(plain) as moved:
            if moved:
                set_generator_states(start)
                rise = accumulate()[0] - loss
        if math.isfinite(rise) and math.isfinite(norm_of(w.grad for w in plain if w.grad is not None)):
            terms = terms | {"sharpness/rise": rise}
        else:
            self.skipped += 1
            for weight, gradient in plain.items():
                weight.grad = gradient
        return loss, terms | {"sharpness/skipped": float(self.skipped)}

    @contextmanager
    def _perturbed(self, gradient: Gradient) -> Iterator[bool]:
        """Moves the weights to w + eps, without a gradient; gives False and moves nothing if there is no direction."""
        held = {weight: g for weight, g in gradient.items() if g is not None}
        with torch.no_grad():
            norm = norm_of(self._scale(weight) * g for weight, g in held.items())
        if not 0 < norm < math.inf:
            yield False
            return
        # Copies, because w + eps - eps is not w.
        before = [weight.detach().clone() for weight in held]
        try:
            with torch.no_grad():
                for weight, g in held.items():
                    scale = self._scale(weight)
                    # T_w g / norm is at most 1: in this order, no gradient is too small.
                    weight.add_(scale * (scale * g / norm), alpha=self.config.rho)
                    weight.grad = None
            yield True
        finally:
            with torch.no_grad():
                for weight, value in zip(held, before, strict=True):
                    weight.copy_(value)

    def _scale(self, weight: nn.Parameter) -> Tensor:
        """The diagonal of T_w."""
        return torch.ones_like(weight) if self._is_plain[weight] else weight.abs() + self.config.eta
