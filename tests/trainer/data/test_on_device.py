"""Every tensor of a dataclass moves, however deep it lies, and nothing else changes."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from trainer.data.on_device import OnDevice


@dataclass(frozen=True)
class Inner(OnDevice):
    """Two of one kind."""

    one: Tensor
    two: Tensor


@dataclass(frozen=True)
class Outer(OnDevice):
    """Whatever a step may read."""

    name: str
    inner: Inner
    answers: Mapping[Any, Any]


def outer() -> Outer:
    return Outer(
        "x", Inner(torch.ones(2), torch.zeros(3)), {"a": torch.arange(4), 5: {"b": torch.ones(1)}, "c": "text"}
    )


def test_tensors_of_fields_and_mappings_move() -> None:
    moved = outer().to(torch.device("meta"))
    assert moved.name == "x" and list(moved.answers) == ["a", 5, "c"] and moved.answers["c"] == "text"
    tensors = [moved.inner.one, moved.inner.two, moved.answers["a"], moved.answers[5]["b"]]
    assert [tensor.device.type for tensor in tensors] == ["meta"] * 4
    assert [tuple(tensor.shape) for tensor in tensors] == [(2,), (3,), (4,), (1,)]


def test_what_is_there_already_is_shared() -> None:
    before = outer()
    here = before.to(torch.device("cpu"))
    assert here is not before and here.inner.one is before.inner.one and here.answers["a"] is before.answers["a"]
