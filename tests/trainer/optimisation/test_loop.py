"""The step of training against arithmetic: a student that is a table of bigrams, whose gradient has a closed form."""

import math
from collections.abc import Sequence
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from schemas.configs.losses.ce import CrossEntropyConfig
from schemas.configs.training import TrainingConfig
from schemas.errors import RunError
from tests.trainer.objectives.answers import whole_logits
from trainer.data.batch import Batch, Divisor
from trainer.objectives.ce import CrossEntropy
from trainer.objectives.loss import Loss, Term
from trainer.objectives.objective import Objective
from trainer.optimisation.loop import MOST_EMPTY, Loop, Source, StepReport
from trainer.optimisation.optimizer import make_optimizer
from trainer.student.states import StudentLogits, StudentStates

TOKENS = 5
CPU = torch.device("cpu")


class Bigrams(nn.Module):
    """The logits after token x are row x of a table."""

    def __init__(self, dtype: torch.dtype = torch.float64):
        super().__init__()
        table = torch.randn(TOKENS, TOKENS, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        self.table = nn.Parameter(table.to(dtype))

    def forward(self, input_ids: Tensor, use_cache: bool, output_hidden_states: bool) -> Any:
        one_hot = nn.functional.one_hot(input_ids, TOKENS).to(self.table.dtype)
        return SimpleNamespace(logits=one_hot @ self.table)


def batch(seed: int, names: str = "ab", targets: bool = True) -> Batch:
    g = torch.Generator().manual_seed(seed)
    tokens_BS = torch.randint(0, TOKENS, (len(names), 6), generator=g)
    target_BS = (torch.rand(len(names), 6, generator=g) < 0.6) & targets
    target_BS[:, 0] = False
    mask_BS = torch.arange(6).expand(len(names), 6) < 4 + seed % 3
    return Batch(tuple(names), tokens_BS, mask_BS, target_BS, tokens_BS, mask_BS, target_BS, {})


def cross_entropy() -> CrossEntropy:
    return CrossEntropy(CrossEntropyConfig(), None)  # type: ignore[arg-type] # it asks nothing of its context


class Pull(Loss):
    """A toy: the sum over samples, or over tokens, of its own parameter's square root; and what it was shown."""

    def __init__(self, start: float, divisor: Divisor = "sample", reads: bool = False):
        super().__init__(CrossEntropyConfig(weight=2.0))
        self.divisor, self.requests = divisor, frozenset([StudentLogits()] if reads else [])
        self.own = nn.Parameter(torch.tensor([start], dtype=torch.float64))
        self.seen: list[torch.dtype] = []

    def forward(self, student: StudentStates, batch: Batch) -> dict[str, Term]:
        self.seen += [whole_logits(student).dtype] if self.requests else []
        return {"root": Term(batch.count(self.divisor) * self.own.sqrt().sum())}

    def parameter_groups(self) -> list[dict[str, object]]:
        return [{"params": [self.own], "lr": 0.5, "weight_decay": 0.0}]


def settings(**changes: Any) -> TrainingConfig:
    base: dict[str, Any] = {"cache": "c", "output": "o", "student": {"model": "m"}, "steps": 9, "device": "cpu"}
    return TrainingConfig.model_validate(base | changes)


def loop_of(
    model: nn.Module, losses: Sequence[Loss], batches: Sequence[Batch], config: TrainingConfig, **given: Any
) -> Loop:
    objective = Objective(losses)
    optimizer = make_optimizer(model, objective.parameter_groups(), config.optimizer)
    return Loop(config, model, {"corpus": Source(objective, iter(batches))}, optimizer, CPU, 9, **given)


def truth(table: np.ndarray, window: Sequence[Batch]) -> tuple[float, np.ndarray]:
    """The mean cross-entropy of all targets, and its gradient: softmax less one-hot, added to the row before each."""
    loss, gradient, count = 0.0, np.zeros_like(table), 0
    for one in window:
        for row, place in one.target_BS.nonzero().tolist():
            before, token = one.tokens_BS[row, place - 1 : place + 1].tolist()
            probabilities = np.exp(table[before]) / np.exp(table[before]).sum()
            loss, count = loss - math.log(probabilities[token]), count + 1
            gradient[before] += probabilities - np.eye(TOKENS)[token]
    return loss / count, gradient / count


def adamw(table: np.ndarray, gradient: np.ndarray, lr: float, decay: float) -> np.ndarray:
    """Its first step, at which both moments are the gradient's own."""
    moved: np.ndarray = table * (1 - lr * decay) - lr * gradient / (np.abs(gradient) + 1e-8)
    return moved


@pytest.mark.parametrize("clip", [None, 0.05, 10.0])
@pytest.mark.parametrize("accumulation", [1, 2, 3])
def test_a_step_is_one_of_adamw_along_the_mean_over_all_its_targets(clip: float | None, accumulation: int) -> None:
    window = [batch(seed) for seed in range(accumulation)]
    config = settings(accumulation=accumulation, optimizer={"lr": 0.1, "warmup": 0.0, "clip": clip})
    model = Bigrams()
    table = model.table.detach().numpy().copy()
    loop = loop_of(model, [cross_entropy()], [*window, batch(9)], config)
    loss, gradient = truth(table, window)
    norm = math.sqrt((gradient**2).sum())
    report = loop.step(0)
    assert report.loss == pytest.approx(loss, rel=1e-6) and report.terms == {"ce/nll": pytest.approx(loss, rel=1e-6)}
    assert report.grad_norm == pytest.approx(norm, rel=1e-6)
    assert report.lr == 0.1 and not report.empty
    clipped = gradient * min(1.0, (clip or math.inf) / norm)
    wanted = adamw(table, clipped, 0.1, 0.1)
    np.testing.assert_allclose(model.table.detach().numpy(), wanted, rtol=1e-5, atol=1e-6)
    assert model.table.grad is None
    assert next(loop.sources["corpus"].stream).tokens_BS.equal(batch(9).tokens_BS)  # no more was drawn


def test_the_rate_follows_the_schedule_and_moments_are_kept() -> None:
    config = settings(optimizer={"lr": 0.1, "warmup": 0.5, "min_lr": 0.01})
    model = Bigrams()
    loop = loop_of(model, [cross_entropy()], [batch(seed) for seed in range(9)], config)
    found = [loop.step(step).lr for step in range(9)]
    assert found[:4] == pytest.approx([0.025, 0.05, 0.075, 0.1]) and found[-1] == pytest.approx(0.01)
    assert loop.optimizer.state[model.table]["step"] == 9


def test_the_norm_is_that_of_the_losses_own_parameters_too() -> None:
    pull = Pull(4.0)
    loop = loop_of(Bigrams(), [cross_entropy(), pull], [batch(0)], settings())
    _, gradient = truth(Bigrams().table.detach().numpy(), [batch(0)])
    report = loop.step(0)
    assert report.terms["ce2/root"] == 2.0  # two samples' root of 4, divided by two; its weight is in the loss alone
    assert report.loss == pytest.approx(report.terms["ce/nll"] + 4.0)
    assert report.grad_norm == pytest.approx(math.sqrt((gradient**2).sum() + 0.25), rel=1e-6)  # (2 * own ** 0.5)'
    assert pull.own.item() < 4.0 and pull.own.grad is None


def test_texts_of_the_student_add_their_own_mean_under_their_own_name() -> None:
    model, config = Bigrams(), settings(accumulation=2)
    windows: dict[str, list[Batch]] = {"corpus": [batch(0), batch(1)], "student": [batch(2, "xyz"), batch(3, "w")]}
    sources = {texts: Source(Objective([cross_entropy()]), iter(window)) for texts, window in windows.items()}
    losses = {texts: truth(model.table.detach().numpy(), window) for texts, window in windows.items()}
    report = Loop(config, model, sources, make_optimizer(model, [], config.optimizer), CPU, 9).step(0)
    assert report.terms == {
        "ce/nll": pytest.approx(losses["corpus"][0], rel=1e-6),
        "student/ce/nll": pytest.approx(losses["student"][0], rel=1e-6),
    }
    assert report.loss == pytest.approx(losses["corpus"][0] + losses["student"][0], rel=1e-6)
    gradient = losses["corpus"][1] + losses["student"][1]
    assert report.grad_norm == pytest.approx(math.sqrt((gradient**2).sum()), rel=1e-6)


def test_speed_is_tokens_of_the_text_by_the_seconds_of_the_whole_step(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([100.0, 104.0])
    monkeypatch.setattr("trainer.optimisation.loop.time.monotonic", lambda: next(clock))
    window = [batch(0), batch(1, "abc")]  # 4 tokens of a text, and 5
    loop = loop_of(Bigrams(), [cross_entropy()], window, settings(accumulation=2))
    assert loop.step(0).tokens_per_second == (2 * 4 + 3 * 5) / 4.0


def test_a_step_without_a_token_to_learn_changes_nothing() -> None:
    model = Bigrams()
    before = model.table.detach().clone()
    nothing, something = batch(0, targets=False), batch(1)
    stream = [nothing, nothing, nothing, something, something, nothing]
    loop = loop_of(model, [cross_entropy()], stream, settings(accumulation=2, optimizer={"lr": 0.1}), empty=4)
    rate = 0.05 * (1 + math.cos(math.pi / 7))  # the schedule goes on: the second of eight steps after the warm-up
    assert loop.step(2) == StepReport(0.0, {}, rate, 0.0, 0.0, empty=True)
    assert torch.equal(model.table, before) and model.table.grad is None and not loop.optimizer.state
    assert loop.empty == 5
    assert not loop.step(3).empty  # one text with a target is enough
    assert not torch.equal(model.table, before) and loop.empty == 0
    assert loop.step(4).loss > 0 and loop.empty == 0


def test_a_new_run_has_had_no_empty_steps() -> None:
    loop = loop_of(Bigrams(), [cross_entropy()], [batch(0, targets=False)], settings())
    assert loop.step(0).empty and loop.empty == 1


@pytest.mark.parametrize(("names", "said"), [("abcd", "a, b, c, d"), ("abcde", "a, b, c, d, …"), ("a", "a")])
def test_too_many_empty_steps_in_a_row_end_the_run(names: str, said: str) -> None:
    assert MOST_EMPTY == 20
    config = settings(student={"model": "m", "max_tokens": 7})
    loop = loop_of(Bigrams(), [cross_entropy()], [batch(0, names, targets=False)] * 3, config, empty=18)
    assert loop.step(40).empty and loop.empty == 19
    with pytest.raises(RunError) as ended:
        loop.step(41)
    assert str(ended.value) == (
        "20 steps in a row, up to step 42, had no token of a response to learn from "
        f"(samples {said}); student.max_tokens is 7, shorter than their prompts: raise it"
    )


def test_an_encoder_learns_from_texts_not_from_tokens() -> None:
    config = settings(
        student={"model": "m", "kind": "encoder"}, objective=[{"loss": "talas"}], optimizer={"lr": 0.1, "warmup": 0.0}
    )
    loop = loop_of(Bigrams(), [Pull(9.0)], [batch(0, targets=False)], config, empty=3)
    report = loop.step(0)
    assert report.terms == {"ce/root": 3.0} and report.loss == 6.0 and not report.empty and loop.empty == 0


def test_divisors_are_counted_for_the_units_that_losses_have(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pair is not counted where no loss asks for pairs, because such a batch holds none."""
    window = [batch(0, "ab"), batch(1, "abc")]
    pull, tokens = Pull(4.0), Pull(16.0, "token")
    report = loop_of(Bigrams(), [pull, tokens], window, settings(accumulation=2)).step(0)
    assert report.terms == {"ce/root": 2.0, "ce2/root": 4.0} and report.loss == 12.0


@pytest.mark.parametrize(("start", "loss", "norm"), [(-1.0, "nan", "nan"), (0.0, "0.0", "inf")])
def test_what_is_not_finite_ends_the_run_with_its_samples(start: float, loss: str, norm: str) -> None:
    pull = Pull(start)
    loop = loop_of(Bigrams(), [pull], [batch(0, "abc"), batch(1, "de")], settings(accumulation=2))
    with pytest.raises(RunError) as ended:
        loop.step(6)
    assert str(ended.value) == (
        f"step 7: loss {loss}, gradient norm {norm}; not a finite number. Samples: a, b, c, d, …. Lower optimizer.lr "
        "or the weight of the term that grew (metrics.jsonl); any checkpoint made before this step is intact"
    )
    assert pull.own.item() == start and not loop.optimizer.state


@pytest.mark.parametrize(
    ("precision", "dtype"), [("auto", torch.float32), ("float32", torch.float32), ("bfloat16", torch.bfloat16)]
)
def test_the_student_computes_in_the_precision_that_was_asked_for(
    monkeypatch: pytest.MonkeyPatch, precision: str, dtype: torch.dtype
) -> None:
    """And the losses' own products may be rounded where its are."""
    rounded = list[bool]()

    def note(device: torch.device, wanted: bool) -> Any:
        rounded.append(wanted)
        return nullcontext()

    monkeypatch.setattr("trainer.objectives.objective.rounded_products", note)
    pull = Pull(4.0, reads=True)
    model = Bigrams(torch.float32)
    loop_of(model, [pull, cross_entropy()], [batch(0)], settings(precision=precision)).step(0)
    assert pull.seen == [dtype] and model.table.dtype == torch.float32
    assert rounded == [dtype == torch.bfloat16]


def test_values_are_all_that_does_not_depend_on_the_clock() -> None:
    report = StepReport(1.5, {"ce/nll": 1.25, "kd/kl": 0.25}, 0.01, 3.0, 99.0)
    assert report.values() == {"loss": 1.5, "ce/nll": 1.25, "kd/kl": 0.25, "lr": 0.01, "grad_norm": 3.0}
    assert StepReport(0.0, {}, 0.02, 0.0, 0.0, empty=True).values() == {"empty": 1.0, "lr": 0.02}
