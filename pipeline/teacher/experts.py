"""The experts that the tokens of one pass went to, and another pass over the same tokens that sends them there again.

A router takes the k best of its scores. Rounding, which differs from a batch of one to a batch of many, tips scores
that lie close together, and a token goes to another expert: what comes of it is off by the whole of an expert's output,
and so is every later token that attends to it. No tolerance tells that from a fault. Where the second pass is sent to
the experts of the first, what is left is rounding, as in a model without experts. Measured in bfloat16 with a third of
all products of attention off by one unit in the last place (tiny random models, 6 layers, a text alone against the same
in a batch; root of the mean square, and the share of tokens that are off by more than 5 %):

    Llama         0.021   0 %
                  chosen by each pass    as in the batch
    Mixtral       0.176  44 %            0.019   0 %
    DeepSeek-V3   0.277  42 %            0.032   5 %
    GPT-OSS       0.208  75 %            0.024   0 %
    Llama 4       0.108  27 %            0.022   0 %
    Granite MoE   0.215  86 %            0.055  42 %

2 to 5 % of the choices differed there, and hardly any by more than a fiftieth of the spread of a token's scores. So a
choice that is far from what the token alone would take is no tie, and is found: what its experts are must not depend on
its neighbours.

Routers are known by what they all do, `torch.topk` over the last axis, whatever their model calls them. One that
chooses otherwise (Phi-3.5 MoE, by thresholds) is not followed. Costs some microseconds per operation of a pass that is
watched, and nothing of others.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from schemas.errors import ModelError

FEW = 2  # tokens of a choice that may be off by more than a tie is: of a short text one is a large share
SHARE = 1 / 8  # of the tokens of a choice, of which the same holds


@dataclass(frozen=True)
class _Choice:
    """One choice of a pass, by all its tokens."""

    ids_BX: Tensor  # of each text of the batch, its tokens' choices one after the other
    among: int


@dataclass(frozen=True)
class Choices:
    """All choices of one pass over a batch, in their order; none of a model without experts."""

    batch: int
    made: list[_Choice] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.made)

    @contextmanager
    def followed(self, number: int, tolerance: float) -> Iterator[None]:
        """Passes inside, each over the text `number` of the batch alone or over its beginning, choose as the batch did.

        Raises ModelError if more than ties explain would have been chosen otherwise: `tolerance` is the share of the
        spread of a token's scores by which rounding may move one.
        """
        if not self.made:
            yield
            return
        follower = _Follower([(choice.ids_BX[number], choice.among) for choice in self.made], tolerance)
        with _watching(follower):
            yield
        if follower.astray:
            raise ModelError(
                "the experts that a text's tokens go to depend on the padding or on the other texts of a batch, so "
                "what they make of it cannot be cached"
            )


@contextmanager
def recorded(batch: int) -> Iterator[Choices]:
    """The choices of the one pass inside, over `batch` texts."""
    choices = Choices(batch)
    with _watching(_Recorder(choices)):
        yield choices


@contextmanager
def choosing() -> Iterator[None]:
    """One pass of a model, whose choices are recorded or followed if that is asked for around it."""
    with ExitStack() as stack:
        for watcher in _active.get():  # what follows comes before what records within it
            watcher.begin()
            stack.enter_context(watcher)
        yield


class _Watched(TorchDispatchMode, ABC):
    """Sees what every `topk` over a last axis gives."""

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        output = function(*args, **(kwargs or {}))
        if function is torch.ops.aten.topk.default and _over_last_axis(*args, **(kwargs or {})):
            return self.chosen(args[0], *output)
        return output

    def begin(self) -> None:
        """A pass begins."""

    @abstractmethod
    def chosen(self, scores: Tensor, values: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
        """What the model gets, of what it has chosen itself: values and ids [..., k] of scores [..., E]."""


def _over_last_axis(scores: Tensor, k: int, dim: int = -1, largest: bool = True, sorted: bool = True) -> bool:
    return dim in (-1, scores.ndim - 1) and largest


_active: ContextVar[tuple[_Watched, ...]] = ContextVar("choices_of_experts", default=())


@contextmanager
def _watching(watcher: _Watched) -> Iterator[None]:
    token = _active.set((*_active.get(), watcher))
    try:
        yield
    finally:
        _active.reset(token)


class _Recorder(_Watched):
    """Notes what a pass chooses."""

    def __init__(self, choices: Choices):
        super().__init__()
        self._choices = choices

    def chosen(self, scores: Tensor, values: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
        """The model's own."""
        if ids.numel() % self._choices.batch:
            return values, ids
        self._choices.made.append(_Choice(ids.reshape(self._choices.batch, -1).clone(), scores.shape[-1]))
        return values, ids


class _Follower(_Watched):
    """Has a pass choose what another did."""

    def __init__(self, wanted: Sequence[tuple[Tensor, int]], tolerance: float):
        super().__init__()
        self._wanted, self._tolerance, self._calls = wanted, tolerance, 0
        self.astray = False

    def begin(self) -> None:
        self._calls = 0

    def chosen(self, scores: Tensor, values: Tensor, ids: Tensor) -> tuple[Tensor, Tensor]:
        """What was chosen there; the model's own of a call that was not made there."""
        if self._calls == len(self._wanted):
            return values, ids
        ids_X, among = self._wanted[self._calls]
        self._calls += 1
        if among != scores.shape[-1] or len(ids_X) < ids.numel():
            return values, ids
        followed = ids_X[: ids.numel()].view_as(ids)
        found = scores.gather(-1, followed)
        self.astray |= self._beyond_ties(scores, values, found)
        return found, followed

    def _beyond_ties(self, scores: Tensor, values: Tensor, found: Tensor) -> bool:
        pairs = (each.float().sort(-1, descending=True).values for each in (values, found))
        apart = torch.sub(*pairs).abs().amax(-1)
        known = scores.float().masked_fill(scores.isinf(), torch.nan)  # what a router masks is no part of the spread
        spread = known.nan_to_num(-torch.inf).amax(-1) - known.nan_to_num(torch.inf).amin(-1)
        far = apart > self._tolerance * spread
        return int(far.sum()) > max(FEW, SHARE * far.numel())
