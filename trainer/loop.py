"""One optimiser step: read, forward, objective, backward, clip, update. Everything around it is in `trainer.run`."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, get_args

import torch

from schemas.errors import RunError
from schemas.training import TrainingConfig
from trainer.batch import Batch, Unit
from trainer.objectives.objective import Objective
from trainer.optimizer import set_learning_rate
from trainer.student import forward

UNITS: tuple[Unit, ...] = get_args(Unit)


@dataclass(frozen=True)
class StepReport:
    """What one step did. `terms` are unweighted means, e.g. {"sra/cos": 0.41}."""

    loss: float
    terms: dict[str, float]
    lr: float
    grad_norm: float
    tokens_per_second: float

    def values(self) -> dict[str, float]:
        """What goes into the metrics file: all that does not depend on the clock."""
        return {"loss": self.loss, **self.terms, "lr": self.lr, "grad_norm": self.grad_norm}


class Loop:
    """The state of training between two steps lives here, and all of it is in a checkpoint."""

    def __init__(
        self,
        config: TrainingConfig,
        model: Any,
        objective: Objective,
        optimizer: torch.optim.Optimizer,
        stream: Iterator[Batch],
        device: torch.device,
        steps: int,
    ):
        self.config, self.model, self.objective, self.optimizer = config, model, objective, optimizer
        self.stream, self.device, self.steps = stream, device, steps
        self.parameters = [p for group in optimizer.param_groups for p in group["params"]]
        self.autocast = torch.autocast(device.type, torch.bfloat16, enabled=use_bfloat16(config.precision, device))

    def step(self, step: int) -> StepReport:
        """Take step number `step` of 0..steps-1. Raises RunError if loss or gradient stop being finite."""
        started = time.monotonic()
        window = [next(self.stream) for _ in range(self.config.accumulation)]
        # Divisors are those of the whole window, so accumulated batches weigh as one large batch would.
        counts = {unit: sum(batch.count(unit) for batch in window) for unit in self._units()}
        if not counts["token"]:
            raise RunError(
                f"step {step + 1}: of its samples ({_name(window)}) no token of the response is left to learn from; "
                f"student.max_tokens is {self.config.student.max_tokens}, shorter than their prompts: raise it"
            )
        lr = set_learning_rate(self.optimizer, self.config.optimizer, step, self.steps)
        loss, terms = 0.0, dict[str, float]()
        for batch in window:
            on_device = batch.to(self.device)
            with self.autocast:
                states = forward(self.model, on_device, self.objective.needs)
            total, parts = self.objective(states, on_device, counts)
            total.backward()
            loss += total.item()
            for name, value in parts.items():
                terms[name] = terms.get(name, 0.0) + float(value)
        clip = self.config.optimizer.clip
        norm = torch.nn.utils.clip_grad_norm_(self.parameters, clip if clip is not None else float("inf")).item()
        if not (torch.isfinite(torch.tensor([loss, norm])).all()):
            raise RunError(
                f"step {step + 1}: loss {loss}, gradient norm {norm}; not a finite number. Samples: {_name(window)}. "
                "Lower optimizer.lr or the weight of the term that grew (metrics.jsonl); the last checkpoint is intact"
            )
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        tokens = sum(int(batch.mask_BS.sum()) for batch in window)
        return StepReport(loss, terms, lr, norm, tokens / (time.monotonic() - started))

    def _units(self) -> tuple[Unit, ...]:
        return UNITS if self.objective.needs.pairs else tuple(unit for unit in UNITS if unit != "pair")


def _name(window: list[Batch]) -> str:
    ids = [sample_id for batch in window for sample_id in batch.sample_ids]
    return ", ".join(ids[:4]) + (", …" if len(ids) > 4 else "")


def use_bfloat16(precision: str, device: torch.device) -> bool:
    """auto: bfloat16 on a GPU that computes in it; on CPUs without AMX it is slower than float32."""
    if precision == "auto":
        return device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return precision == "bfloat16"
