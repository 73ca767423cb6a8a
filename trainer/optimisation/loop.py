"""One optimiser step: read, forward, objective, backward, clip, update. What surrounds it is in `trainer.runs`."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any, Protocol, runtime_checkable

import torch

from schemas.configs.training import TrainingConfig
from schemas.errors import RunError
from trainer.data.batch import Batch
from trainer.objectives.objective import Objective
from trainer.optimisation.division import Division
from trainer.optimisation.gradients import clip_gradients, sum_gradients
from trainer.optimisation.optimizer import set_learning_rate
from trainer.optimisation.ranks import ALONE, Ranks
from trainer.optimisation.sharpness import Sharpness
from trainer.student.device import use_bfloat16
from trainer.student.final_states import directly
from trainer.student.load import forward

MOST_EMPTY = 20  # steps in a row


@dataclass(frozen=True)
class StepReport:
    """The report of one step. `terms` are unweighted means, e.g. {"sra/cos": 0.41}."""

    loss: float
    terms: dict[str, float]
    lr: float
    grad_norm: float
    tokens_per_second: float
    empty: bool = False  # its samples had no token to learn, and it changed nothing

    def values(self) -> dict[str, float]:
        """The values for the metrics file: all that does not depend on the clock."""
        if self.empty:
            return {"empty": 1.0, "lr": self.lr}
        return {"loss": self.loss, **self.terms, "lr": self.lr, "grad_norm": self.grad_norm}


@runtime_checkable
class Closable(Protocol):
    """A stream that holds something until it is closed."""

    def close(self) -> None:
        """Give it up."""


@dataclass(frozen=True)
class Source:
    """Texts with the teacher's states, without end, and the losses over them."""

    objective: Objective
    stream: Iterator[Batch]  # empty on a rank that has no share of any batch
    weight: float = 1.0  # of the objective over it: of one of several teachers, less


class Loop:
    """The state of training between two steps: all of it is in a checkpoint."""

    def __init__(
        self,
        config: TrainingConfig,
        model: Any,
        sources: Mapping[str, Source],
        optimizer: torch.optim.Optimizer,
        device: torch.device,
        steps: int,
        sharpness: Sharpness | None = None,
        empty: int = 0,
        ranks: Ranks = ALONE,
        division: Division | None = None,
    ):
        """`empty`: steps in a row, up to now, that had no token to learn. `ranks` that train together each have their
        own share of every batch in `sources`, and take every step at the same time; `division` says how the student is
        divided among them."""
        self.division = division
        self.config, self.model, self.sources, self.optimizer = config, model, sources, optimizer
        self.device, self.steps, self.sharpness, self.empty, self.ranks = device, steps, sharpness, empty, ranks
        self.parameters = [p for group in optimizer.param_groups for p in group["params"]]
        # Of several teachers' heads, one at a time lies on a GPU.
        self.takes_turns = len(set(sources) - {"student"}) > 1 and device.type == "cuda"
        for source in sources.values() if self.takes_turns else ():
            source.objective.move_heads(torch.device("cpu"))
        rounded = use_bfloat16(config.precision, device, config.student.dtype)
        self.autocast = torch.autocast(device.type, torch.bfloat16, enabled=rounded)

    def step(self, step: int) -> StepReport:
        """Take step number `step` of 0..steps-1. One without a token to learn changes nothing.

        Raises RunError if loss or gradient stop being finite, or if MOST_EMPTY steps in a row have nothing to learn.
        """
        started = time.monotonic()
        windows = {texts: self._draw(source) for texts, source in self.sources.items()}
        lr = set_learning_rate(self.optimizer, self.config.optimizer, step, self.steps)
        counts = self._count(windows)
        if self._is_empty(windows, counts, step):
            return StepReport(0.0, {}, lr, 0.0, 0.0, empty=True)
        accumulate = partial(self._accumulate, windows, counts)
        loss, terms = self.sharpness.gradient(accumulate) if self.sharpness else accumulate()
        clip = self.config.optimizer.clip
        norm = clip_gradients(self.parameters, clip if clip is not None else float("inf"))
        if not (torch.isfinite(torch.tensor([loss, norm])).all()):
            raise RunError(
                f"step {step + 1}: loss {loss}, gradient norm {norm}; not a finite number. Samples: "
                f"{self._name(windows)}. Lower optimizer.lr or the weight of the term that grew (metrics.jsonl); "
                "any checkpoint made before this step is intact"
            )
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return StepReport(loss, terms, lr, norm, counts["tokens"] / (time.monotonic() - started))

    def close(self) -> None:
        """Give up the streams of batches, and what was read ahead."""
        for source in self.sources.values():
            if isinstance(source.stream, Closable):
                source.stream.close()

    def _draw(self, source: Source) -> list[Batch]:
        return list(islice(source.stream, self.config.accumulation))

    def _count(self, windows: Mapping[str, list[Batch]]) -> dict[str, int]:
        """Of the whole step, all batches and ranks: tokens of text, targets, and the divisors as `corpus/token`."""
        batches = [batch for window in windows.values() for batch in window]
        own = {"tokens": sum(int(batch.mask_BS.sum()) for batch in batches)}
        if self.config.student.kind == "causal":
            own["targets"] = sum(batch.count("token") for batch in batches)
        for texts, window in windows.items():
            for each in self.sources[texts].objective.divisors:
                own[f"{texts}/{each}"] = sum(batch.count(each) for batch in window)
        return self.ranks.sum(own)

    def _is_empty(self, windows: Mapping[str, list[Batch]], counts: Mapping[str, int], step: int) -> bool:
        if counts.get("targets", 1):
            self.empty = 0
            return False
        self.empty += 1
        if self.empty == MOST_EMPTY:
            raise RunError(
                f"{MOST_EMPTY} steps in a row, up to step {step + 1}, had no token of a response to learn from "
                f"(samples {self._name(windows)}); student.max_tokens is {self.config.student.max_tokens}, shorter "
                "than their prompts: raise it"
            )
        return True

    def _accumulate(
        self, windows: Mapping[str, list[Batch]], counts: Mapping[str, int]
    ) -> tuple[float, dict[str, float]]:
        """Add the gradient of the whole objective over the windows; returns its value and its terms' means.

        Both are sums over ranks. `counts` are those of all: accumulated batches, and those of other ranks, weigh as one
        large batch would.
        """
        loss, terms = 0.0, dict[str, float]()
        for texts, window in windows.items():
            objective, weight = self.sources[texts].objective, self.sources[texts].weight
            if self.takes_turns:
                objective.move_heads(self.device)
            divisors = {each: counts[f"{texts}/{each}"] for each in objective.divisors}
            for batch in window:
                on_device = batch.to(self.device)
                with self.autocast:
                    call = self.division.call if self.division else directly
                    states = forward(self.model, on_device, objective.of_student, call)
                    total, parts = objective(states, on_device, divisors)
                if weight != 1:
                    total = total * weight
                if self.division:
                    total = total + self.division.nothing()
                total.backward()
                loss += total.item()
                for name, value in parts.items():
                    key = name if texts == "corpus" else f"{texts}/{name}"
                    terms[key] = terms.get(key, 0.0) + float(value)
            if self.takes_turns:
                objective.move_heads(torch.device("cpu"))
        sum_gradients(self.parameters, self.ranks)
        summed = self.ranks.sum({"loss": loss} | {f"of {name}": value for name, value in terms.items()})
        return summed.pop("loss"), {name.removeprefix("of "): value for name, value in summed.items()}

    def _name(self, windows: Mapping[str, list[Batch]]) -> str:
        """The first samples of a step. Every rank asks, or none."""
        own = [sample_id for window in windows.values() for batch in window for sample_id in batch.sample_ids[:5]]
        ids = [sample_id for ids in self.ranks.gather(own[:5]) for sample_id in ids]
        return ", ".join(ids[:4]) + (", …" if len(ids) > 4 else "")
