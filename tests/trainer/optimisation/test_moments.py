"""Every optimiser goes on from its moments bit for bit, and from no others."""

import pytest
import torch
from torch import Tensor, nn

from schemas.configs.training import OptimizerConfig
from trainer.optimisation.moments import moments, put_back_moments
from trainer.optimisation.optimizer import make_optimizer

KEPT = {
    "adamw": {"step", "exp_avg", "exp_avg_sq"},
    "adam": {"step", "exp_avg", "exp_avg_sq"},
    "sgd": {"momentum_buffer"},
    "adafactor": {"step", "row_var", "col_var", "variance"},
}


def small_model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Conv1d(2, 2, 3), nn.LayerNorm(4))


def take_steps(model: nn.Module, optimizer: torch.optim.Optimizer, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    for _ in range(2):
        for parameter in list(model.parameters())[:-1]:  # the last never has a gradient
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        optimizer.step()


@pytest.mark.parametrize("name", KEPT)
def test_an_optimiser_goes_on_bit_for_bit(name: str) -> None:
    config = OptimizerConfig.model_validate({"name": name, "lr": 0.05})
    first = small_model()
    optimizer = make_optimizer(first, [], config)
    take_steps(first, optimizer, 1)
    kept = {key: value.clone() for key, value in moments(optimizer).items()}
    assert {key.split(".")[1] for key in kept} == KEPT[name]
    second = small_model()
    second.load_state_dict(first.state_dict())
    resumed = make_optimizer(second, [], config)
    put_back_moments(resumed, kept)
    for model, of in ((first, optimizer), (second, resumed)):
        take_steps(model, of, 2)
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    assert not torch.equal(next(first.parameters()), next(small_model().parameters()))


def refuse(name: str, kept: dict[str, Tensor], message: str) -> None:
    optimizer = make_optimizer(small_model(), [], OptimizerConfig.model_validate({"name": name}))
    with pytest.raises(ValueError, match=message):
        put_back_moments(optimizer, kept)


def test_moments_of_others_are_refused() -> None:
    step, matrix = torch.tensor(1.0), torch.zeros(4, 3)
    refuse("adamw", {"0.momentum_buffer": matrix}, "has momentum_buffer of its moments instead of exp_avg, exp_avg_sq")
    refuse("adamw", {"0.step": step, "0.exp_avg": matrix}, "has exp_avg, step of its moments")
    refuse("sgd", {"0.momentum_buffer": matrix.T}, r"0\.momentum_buffer has the shape \(3, 4\) instead of \(4, 3\)")
    refuse("adafactor", {"0.step": step, "0.row_var": matrix, "0.col_var": matrix}, r"0\.row_var has the shape")
