"""Adaptive sharpness-aware minimisation: two passes written out in float64, weights restored to the bit, same when
resumed; and what happens where there is no gradient to climb."""

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from schemas.configs.losses.ce import CrossEntropyConfig
from schemas.configs.training import OptimizerConfig, SharpnessConfig, TrainingConfig
from tests.caches import small_cache
from tests.crash import interrupt
from tests.trainer.objectives.world import make_context
from trainer.data.batch import Batch
from trainer.objectives.objective import build_objective
from trainer.optimisation.loop import Loop, Source
from trainer.optimisation.optimizer import make_optimizer
from trainer.optimisation.sharpness import Sharpness
from trainer.runs.metrics import read_metrics
from trainer.runs.train import train

RHO, ETA = 0.05, 0.01
OPTIMIZER = OptimizerConfig(lr=1e-2, warmup=0.5, clip=0.5, sharpness=SharpnessConfig(rho=RHO, eta=ETA))


def student() -> LlamaForCausalLM:
    torch.manual_seed(3)
    config = LlamaConfig(
        vocab_size=11,
        hidden_size=8,
        intermediate_size=12,
        num_hidden_layers=2,
        num_attention_heads=2,
        attention_dropout=0.3,
        attention_bias=True,
        initializer_range=0.5,
    )
    return LlamaForCausalLM(config).double().train()


def random_batch(seed: int) -> Batch:
    g = torch.Generator().manual_seed(seed)
    tokens_BS = torch.randint(0, 11, (3, 6), generator=g)
    target_BS = torch.rand(3, 6, generator=g) < 0.7
    target_BS[:, 0] = False
    real_BS = torch.ones(3, 6, dtype=torch.bool)
    return Batch(("a", "b", "c"), tokens_BS, real_BS, target_BS, tokens_BS, real_BS, target_BS, {})


def make_loop(model: nn.Module, batches: list[Batch], optimizer: OptimizerConfig, steps: int) -> Loop:
    config = TrainingConfig.model_validate(
        {
            "cache": "unread",
            "output": "unwritten",
            "student": {"model": "given"},
            "optimizer": optimizer,
            "accumulation": 2,
            "steps": steps,
        }
    )
    source = Source(build_objective([CrossEntropyConfig()], make_context()), iter(batches))
    sharpness = Sharpness(optimizer.sharpness, model.named_parameters()) if optimizer.sharpness else None
    return Loop(
        config, model, {"corpus": source}, make_optimizer(model, [], optimizer), torch.device("cpu"), steps, sharpness
    )


def naive_gradient(model: nn.Module, window: list[Batch]) -> tuple[float, dict[str, np.ndarray]]:
    """The mean cross-entropy over both batches, token by token, and its gradient."""
    count = sum(int(batch.target_BS.sum()) for batch in window)
    total = torch.zeros((), dtype=torch.float64)
    for batch in window:
        probabilities = model(input_ids=batch.tokens_BS).logits.softmax(-1)
        for b, s in batch.target_BS.nonzero().tolist():
            total = total - probabilities[b, s - 1, batch.tokens_BS[b, s]].log()
    names, parameters = zip(*model.named_parameters(), strict=True)
    gradients = torch.autograd.grad(total / count, parameters)
    return (total / count).item(), {name: g.numpy() for name, g in zip(names, gradients, strict=True)}


def naive_step(
    model: nn.Module, window: list[Batch], moments: dict[str, Any], lr: float, number: int, seed: int
) -> tuple[float, float]:
    """ASAM around AdamW as the papers write them; returns the loss at w and the rise to w + eps."""
    weights = {name: p.detach().numpy().copy() for name, p in model.named_parameters()}
    torch.manual_seed(seed)
    loss, gradient = naive_gradient(model, window)
    scale = {name: np.ones_like(w) if name.endswith(".bias") else np.abs(w) + ETA for name, w in weights.items()}
    norm = math.sqrt(sum(((scale[name] * g) ** 2).sum() for name, g in gradient.items()))
    with torch.no_grad():
        for name, p in model.named_parameters():
            p.copy_(torch.from_numpy(weights[name] + RHO * scale[name] ** 2 * gradient[name] / norm))
    torch.manual_seed(seed)
    risen, gradient = naive_gradient(model, window)
    clip = min(1.0, 0.5 / math.sqrt(sum((g**2).sum() for g in gradient.values())))
    with torch.no_grad():
        for name, p in model.named_parameters():
            g = clip * gradient[name]
            m, v = moments.get(name, (0.0, 0.0))
            m, v = 0.9 * m + 0.1 * g, 0.95 * v + 0.05 * g**2
            moments[name] = m, v
            w = weights[name] * (1 - lr * (0.1 if p.ndim >= 2 else 0.0))
            p.copy_(torch.from_numpy(w - lr * (m / (1 - 0.9**number)) / (np.sqrt(v / (1 - 0.95**number)) + 1e-8)))
    return loss, risen - loss


def test_steps_equal_the_two_passes_written_out_with_dropout_and_accumulation() -> None:
    batches = [random_batch(seed) for seed in range(4)]
    ours, truth = student(), student()
    assert any(name.endswith(".bias") for name, _ in ours.named_parameters())
    loop = make_loop(ours, batches, OPTIMIZER, steps=2)
    moments: dict[str, Any] = {}
    for number, lr in ((1, 1e-2), (2, 1e-2)):  # one step of warm-up, then the peak
        torch.manual_seed(number)
        report = loop.step(number - 1)
        loss, rise = naive_step(truth, batches[2 * number - 2 : 2 * number], moments, lr, number, seed=number)
        assert report.lr == lr and report.loss == pytest.approx(loss, rel=1e-6)
        assert report.terms["sharpness/rise"] == pytest.approx(rise, rel=1e-4)
        assert report.terms["sharpness/skipped"] == 0
        for (name, p), q in zip(ours.named_parameters(), truth.parameters(), strict=True):
            np.testing.assert_allclose(p.detach().numpy(), q.detach().numpy(), rtol=1e-5, atol=1e-7, err_msg=name)


def test_the_second_pass_draws_what_the_first_drew_and_no_more() -> None:
    """A step leaves the generator where a plain one does."""
    states = []
    for optimizer in (OPTIMIZER, OPTIMIZER.model_copy(update={"sharpness": None})):
        torch.manual_seed(5)
        make_loop(student(), [random_batch(0), random_batch(1)], optimizer, steps=1).step(0)
        states.append(torch.get_rng_state())
    assert torch.equal(*states)


class Visits:
    """A loss over weights of very different sizes, that remembers where it was asked for."""

    def __init__(self, loss: Callable[[nn.ParameterDict], torch.Tensor], seed: int = 0):
        g = torch.Generator().manual_seed(seed)
        self.weights = nn.ParameterDict(
            {
                "weight": nn.Parameter(torch.randn(5, 4, generator=g) * torch.logspace(-3, 0.5, 4)),
                "bias": nn.Parameter(torch.randn(5, generator=g)),
                "zero": nn.Parameter(torch.zeros(3)),
            }
        )
        self.unused = nn.Parameter(torch.ones(2))
        self.loss, self.seen = loss, list[dict[str, torch.Tensor]]()

    def __call__(self) -> tuple[float, dict[str, float]]:
        self.seen.append({name: w.detach().clone() for name, w in self.weights.items()})
        loss = self.loss(self.weights)
        loss.backward()
        return loss.item(), {"ce/nll": loss.item()}

    def sharpness(self, skipped: int = 0) -> Sharpness:
        named = [*self.weights.items(), ("unused.weight", self.unused)]
        return Sharpness(SharpnessConfig(rho=RHO, eta=ETA), named, skipped)


def bowl(w: nn.ParameterDict) -> torch.Tensor:
    """Convex, so the climb goes up however long it is."""
    curved: torch.Tensor = (w["weight"].logsumexp(0) ** 2).sum() + (w["bias"] ** 2).sum() + ((w["zero"] - 1) ** 2).sum()
    return curved


@pytest.mark.parametrize("seed", range(5))
def test_the_perturbation_has_length_rho_in_units_of_the_weights_and_leaves_them_as_they_were(seed: int) -> None:
    visits = Visits(bowl, seed)
    loss, terms = visits.sharpness().gradient(visits)
    before, moved = visits.seen
    squares = 0.0
    for name, w in before.items():
        scale = torch.ones_like(w) if name == "bias" else w.abs() + ETA
        squares += float((((moved[name] - w).double() / scale) ** 2).sum())
        assert not torch.equal(moved[name], w), name
        assert torch.equal(visits.weights[name], w), name
    assert math.sqrt(squares) == pytest.approx(RHO, rel=1e-4)
    assert loss == terms["ce/nll"] and terms["sharpness/rise"] > 0 and terms["sharpness/skipped"] == 0
    there = {name: w.clone().requires_grad_() for name, w in moved.items()}
    bowl(there).backward()  # type: ignore[arg-type]
    for name, w in visits.weights.items():
        torch.testing.assert_close(w.grad, there[name].grad)
    assert visits.unused.grad is None


@pytest.mark.parametrize(
    ("loss", "asked"),
    [
        (lambda w: sum(0.0 * x.sum() for x in w.values()), 1),
        (lambda w: w["weight"].sum() * math.inf, 1),
        (lambda w: bowl(w) - (1 + 1e9 * w["zero"]).log().sum(), 2),
    ],
    ids=["no gradient", "a gradient that is not finite", "one that is not finite after the climb"],
)
def test_where_there_is_nothing_to_climb_the_plain_gradient_stays_and_is_counted(
    loss: Callable[[nn.ParameterDict], torch.Tensor], asked: int
) -> None:
    visits, plain = Visits(loss), Visits(loss)
    plain()
    sharpness = visits.sharpness(skipped=6)
    _, terms = sharpness.gradient(visits)
    assert len(visits.seen) == asked
    assert terms["sharpness/skipped"] == 7 and sharpness.skipped == 7 and "sharpness/rise" not in terms
    for name, w in visits.weights.items():
        assert torch.equal(w, plain.weights[name])
        torch.testing.assert_close(w.grad, plain.weights[name].grad, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("scale_biases", [False, True])
def test_biases_are_scaled_by_their_size_where_that_is_asked_for(scale_biases: bool) -> None:
    visits = Visits(bowl)
    named = [("layer.weight", visits.weights["weight"]), ("layer.bias", visits.weights["bias"])]
    Sharpness(SharpnessConfig(rho=RHO, eta=ETA, scale_biases=scale_biases), named).gradient(visits)
    before, moved = visits.seen
    gradient = {name: torch.autograd.grad(bowl(visits.weights), visits.weights[name])[0] for name in ("weight", "bias")}
    scale = {
        "weight": before["weight"].abs() + ETA,
        "bias": before["bias"].abs() + ETA if scale_biases else torch.ones(5),
    }
    norm = math.sqrt(sum(float(((scale[name] * g) ** 2).sum()) for name, g in gradient.items()))
    for name, g in gradient.items():
        torch.testing.assert_close(moved[name] - before[name], RHO * scale[name] ** 2 * g / norm, rtol=1e-4, atol=1e-6)


def test_weights_are_put_back_when_the_second_pass_fails() -> None:
    visits = Visits(bowl)

    def accumulate() -> tuple[float, dict[str, float]]:
        if visits.seen:
            raise MemoryError
        return visits()

    with pytest.raises(MemoryError):
        visits.sharpness().gradient(accumulate)
    assert all(torch.equal(w, visits.seen[0][name]) for name, w in visits.weights.items())


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("sharpness")
    small_cache(folder)
    yield folder


def config(made: Path, output: Path, sharpness: dict[str, float] | None) -> TrainingConfig:
    size = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    return TrainingConfig.model_validate(
        {
            "cache": made / "cache",
            "output": output,
            "student": {
                "architecture": {"model_type": "llama", "attention_dropout": 0.1, **size},
                "tokenizer": "teacher",
                "max_tokens": 64,
            },
            "objective": [{"loss": "ce"}, {"loss": "sra"}],
            "optimizer": {"lr": 1e-2, "sharpness": sharpness},
            "steps": 5,
            "batch_size": 2,
            "accumulation": 2,
            "threads": 1,
            "checkpoint_every": 1,
            "log_every": 1,
        }
    )


def files(run: Path) -> tuple[bytes, bytes]:
    return (run / "model" / "model.safetensors").read_bytes(), (run / "metrics.jsonl").read_bytes()


def test_a_resumed_run_is_the_same_bit_for_bit(made: Path, tmp_path: Path) -> None:
    train(config(made, tmp_path / "whole", {}))
    for step in (1, 3):
        crashed = config(made, tmp_path / f"crashed{step}", {})
        interrupt(crashed, step)
        train(crashed)
        assert files(tmp_path / f"crashed{step}") == files(tmp_path / "whole")
    train(config(made, tmp_path / "plain", None))
    assert files(tmp_path / "plain")[0] != files(tmp_path / "whole")[0]
    assert all(line["sharpness/rise"] > 0 for line in read_metrics(tmp_path / "whole")[1:])


def test_the_count_of_skipped_perturbations_survives_a_crash(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So long a step that no number is left: every step falls back to AdamW's own, and says so."""
    train(config(made, tmp_path / "plain", None))
    run = config(made, tmp_path / "run", {})
    far = SharpnessConfig.model_construct(**SharpnessConfig().model_dump() | {"rho": 1e38})  # no config can ask for it
    run = run.model_copy(update={"optimizer": run.optimizer.model_copy(update={"sharpness": far})})
    interrupt(run, 3)
    train(run)
    assert [line["sharpness/skipped"] for line in read_metrics(tmp_path / "run")[1:]] == [1, 2, 3, 4, 5]
    assert files(tmp_path / "run")[0] == files(tmp_path / "plain")[0]


def test_without_any_gradient_there_is_no_second_pass() -> None:
    weight, calls = nn.Parameter(torch.ones(2)), list[int]()

    def accumulate() -> tuple[float, dict[str, float]]:
        calls.append(1)
        return 0.5, {"ce/nll": 0.5}

    sharpness = Sharpness(SharpnessConfig(), [("weight", weight)])
    assert sharpness.gradient(accumulate) == (0.5, {"ce/nll": 0.5, "sharpness/skipped": 1.0})
    assert calls == [1] and weight.grad is None
