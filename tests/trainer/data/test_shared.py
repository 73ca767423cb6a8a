"""A read that several students share: one build per batch, few held, and one error for all."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

import pytest

from schemas.errors import PairingError
from trainer.data.batch import Batch
from trainer.data.loader import BatchBuilder
from trainer.data.shared import SharedRead


@dataclass
class Builder:
    """As much of a BatchBuilder as a read looks at."""

    requests: list[Any]
    packed: bool = False


def numbers(first: int, built: list[int], last: int = 1_000) -> Iterator[Batch]:
    """Batches that are their numbers; the one after `last` cannot be built."""
    for number in range(first, last + 1):
        built.append(number)
        yield cast(Batch, number)
    raise PairingError("sample s7")


def join(read: SharedRead, builder: Builder, first: int, built: list[int], last: int = 1_000) -> Any:
    stream = numbers(first, built, last)
    return read.join(cast(BatchBuilder, builder), stream, first, lambda batch: cast(Batch, -cast(int, batch)))


def test_each_batch_is_built_and_decoded_once_and_dropped_after_the_last() -> None:
    read, built, builders = SharedRead(), list[int](), [Builder(["b"]), Builder(["a", "b"]), Builder(["c"])]
    students = [join(read, builder, first, built) for builder, first in zip(builders, (4, 2, 4), strict=True)]
    assert builders[1].requests == ["a", "b", "c"]  # of the one that begins first
    assert [next(students[1]) for _ in range(2)] == [-2, -3]
    assert read._held == {}
    for number in (4, 5, 6):
        assert [next(student) for student in students] == [-number] * 3
    assert built == [2, 3, 4, 5, 6]
    next(students[0]), next(students[1])
    assert list(read._held) == [7]
    students[2].close()
    assert read._held == {} and next(students[0]) == -8 and list(read._held) == [8]


def test_what_is_built_otherwise_is_read_alone() -> None:
    read, built = SharedRead(), list[int]()
    first, packed = join(read, Builder(["a"]), 0, built), join(read, Builder(["a"], packed=True), 0, built)
    assert (next(first), next(packed)) == (0, 0) and built == [0, 0]
    assert next(packed) == 1 and next(first) == -1


def test_an_error_reaches_every_student() -> None:
    read, built = SharedRead(), list[int]()
    students = [join(read, Builder([]), 0, built, last=0) for _ in range(2)]
    assert [next(student) for student in students] == [0, 0]
    for student in students * 2:
        with pytest.raises(PairingError, match="sample s7"):
            next(student)
