"""Steps in bfloat16 with float32 masters against the same written out in plain torch: byte for byte."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from schemas.configs.training import OptimizerConfig
from trainer.optimisation.gradients import clip_gradients
from trainer.optimisation.masters import hold_in_bfloat16, rounded_weights
from trainer.optimisation.moments import moments, put_back_moments
from trainer.optimisation.optimizer import make_optimizer

Optimizer = torch.optim.Optimizer
PLAIN: dict[str, Any] = {
    "adamw": lambda groups: torch.optim.AdamW(groups, betas=(0.9, 0.95), fused=True),
    "adam": lambda groups: torch.optim.Adam(groups, betas=(0.9, 0.95), fused=True),
    "sgd": lambda groups: torch.optim.SGD(groups, momentum=0.9, fused=True),
    "adafactor": torch.optim.Adafactor,
}
LR, CLIP, ACCUMULATION = 2e-3, 0.5, 3  # an update of AdamW is a quarter of what a weight of 1 has for its last bit


class Small(nn.Module):
    """Two matrices of which one is used twice, and biases."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.second = nn.Linear(6, 6), nn.Linear(6, 5)

    def forward(self, x_Bd: Tensor) -> Tensor:
        found: Tensor = self.second(self.first(self.first(x_Bd).tanh()))
        return found


def backward(model: nn.Module, step: int, part: int) -> None:
    generator = torch.Generator().manual_seed(10 * step + part)
    x_Bd = torch.randn(4, 6, generator=generator)
    with torch.autocast("cpu", torch.bfloat16):
        loss = model(x_Bd).float().square().sum()
    loss.backward()


def held(name: str) -> tuple[Small, Optimizer]:
    model = Small()
    config = OptimizerConfig.model_validate({"name": name, "lr": LR})
    return model, make_optimizer(model, [], config, hold_in_bfloat16(model))


def take_steps(model: nn.Module, optimizer: Optimizer, steps: range) -> None:
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for step in steps:
        for part in range(ACCUMULATION):
            backward(model, step, part)
            assert all(weight.grad is None for weight in model.parameters())
        clip_gradients(parameters, CLIP)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)


def by_hand(name: str, steps: int) -> tuple[list[Tensor], list[Tensor]]:
    """Masters, and the weights that they are rounded to."""
    model = Small()
    masters = [parameter.detach().clone() for parameter in model.parameters()]
    model.to(torch.bfloat16)
    weights = list(model.parameters())
    matrices, vectors = ([m for m in masters if m.ndim == ndim] for ndim in (2, 1))
    decays = ({"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0})
    optimizer = PLAIN[name]([group | {"lr": LR} for group in decays])
    for step in range(steps):
        sums = [torch.zeros_like(master) for master in masters]
        for part in range(ACCUMULATION):
            model.zero_grad()
            backward(model, step, part)
            for total, weight in zip(sums, weights, strict=True):
                assert weight.grad is not None and weight.grad.dtype == torch.bfloat16
                total += weight.grad.float()
        norm = torch.cat([total.flatten() for total in sums]).norm()
        for master, total in zip(masters, sums, strict=True):
            master.grad = total
        assert norm > CLIP  # so that clipping has something to do
        torch.nn.utils.clip_grad_norm_(sorted(masters, key=lambda master: -master.ndim), CLIP)
        optimizer.step()
        with torch.no_grad():
            for weight, master in zip(weights, masters, strict=True):
                weight.copy_(master.bfloat16())
    return masters, [weight.detach() for weight in weights]


@pytest.mark.parametrize("name", PLAIN)
def test_every_optimiser_steps_as_one_written_by_hand_and_goes_on_bit_for_bit(name: str) -> None:
    masters, weights = by_hand(name, 5)
    model, optimizer = held(name)
    take_steps(model, optimizer, range(3))
    kept = {key: value.detach().clone() for key, value in moments(optimizer).items()}
    assert {value.dtype for value in kept.values()} == {torch.float32}
    resumed, of_resumed = held(name)
    put_back_moments(of_resumed, kept)
    assert all(map(torch.equal, resumed.parameters(), model.parameters()))
    take_steps(resumed, of_resumed, range(3, 5))
    assert all(map(torch.equal, resumed.parameters(), weights))
    found = {weight: master for _, master, weight in rounded_weights(of_resumed)}
    assert all(torch.equal(found[weight], m) for weight, m in zip(resumed.parameters(), masters, strict=True))
    assert not all(torch.equal(weight.float(), m) for weight, m in zip(weights, masters, strict=True))


def test_updates_that_bfloat16_cannot_tell_add_up() -> None:
    model = nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, 1.0)
    config = OptimizerConfig.model_validate({"name": "sgd", "lr": 2**-10, "weight_decay": 0, "betas": [0.0, 0.0]})
    optimizer = make_optimizer(model, [], config, hold_in_bfloat16(model))
    seen = []
    for _ in range(8):
        model(torch.ones(1, 1, dtype=torch.bfloat16)).sum().backward()
        optimizer.step()
        optimizer.zero_grad()
        seen.append(model.weight.item())
    # Below 1, bfloat16 has steps of 1/256; ties go to the even neighbour.
    assert seen == [1.0, 1.0, 1 - 2**-8, 1 - 2**-8, 1 - 2**-8, 1 - 2**-7, 1 - 2**-7, 1 - 2**-7]


def test_each_trained_weight_takes_two_bytes_and_its_master_four() -> None:
    model, optimizer = held("adamw")
    take_steps(model, optimizer, range(1))
    weights = sum(weight.nbytes for weight in model.parameters())
    state = sum(value.nbytes for name, value in moments(optimizer).items() if not name.endswith(".step"))
    numbers = sum(weight.numel() for weight in model.parameters())
    assert (weights, state) == (2 * numbers, 3 * 4 * numbers)


def test_what_is_not_trained_is_rounded_and_what_is_may_be_kept() -> None:
    model = Small()
    model.first.requires_grad_(False)
    assert hold_in_bfloat16(model, keep_trained=True) == {}
    assert [weight.dtype for weight in model.parameters()] == [torch.bfloat16] * 2 + [torch.float32] * 2


def test_masters_of_other_parameters_are_refused() -> None:
    _, optimizer = held("sgd")
    kept = {key: value.detach() for key, value in moments(optimizer).items()}
    with pytest.raises(ValueError, match=r"master 0 has the shape \(6,\) instead of \(6, 6\)"):
        put_back_moments(optimizer, kept | {"0.master": torch.zeros(6)})
    with pytest.raises(LookupError, match=r"3\.master"):
        put_back_moments(optimizer, {key: value for key, value in kept.items() if key != "3.master"})
