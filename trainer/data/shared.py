"""One read of a cache for several students that learn in lock-step: each batch is built, moved and decoded once, and
its teacher's logits are computed once, as far as they can be held.

A batch is held from the first student that takes it to the last. They take the same one in turn, so few are held.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from trainer.data.batch import Batch
from trainer.data.loader import BatchBuilder
from trainer.data.teacher_logits import TeacherLogits

Decode = Callable[[Batch], Batch]
OF_STUDENTS = {"requests", "cache", "tokenize"}  # of a builder: joined, or known to be the same


class SharedRead:
    """The batches of one order, built by one builder for the requests of all students that joined."""

    def __init__(self, most_bytes: int = 0) -> None:
        """Of each batch, up to `most_bytes` of the teacher's logits are held for the students that come later."""
        self.most_bytes = most_bytes
        self._builder: BatchBuilder | None = None
        self._stream: Iterator[Batch] = iter(())
        self._decode: Decode = lambda batch: batch
        self._next = 0  # number of the batch that the stream gives next
        self._held: dict[int, Batch] = {}
        self._places: dict[object, int] = {}  # which batch each student takes next
        self._error: Exception | None = None

    def join(self, builder: BatchBuilder, stream: Iterator[Batch], first: int, decode: Decode) -> Iterator[Batch]:
        """The batches from number `first` on, which `stream` would give, as `builder` builds them; `decode` gives a
        batch on its device, with nothing left to decode. All join before any takes one.

        A student whose batches are built in another way, such as packed, reads its own.
        """
        if self._builder is None or (_settings(builder) == _settings(self._builder)):
            joined = set(builder.requests) | set(self._builder.requests if self._builder else ())
            if self._builder is None or first < self._next:
                self._builder, self._stream, self._decode, self._next = builder, stream, decode, first
            self._builder.requests = sorted(joined, key=repr)
            return _Reader(self, first)
        return stream

    def enter(self, reader: object, first: int) -> None:
        """`reader` will take batch number `first` next."""
        self._places[reader] = first

    def leave(self, reader: object) -> None:
        """`reader` takes no more batches: none is held for it."""
        self._places.pop(reader, None)
        self._drop()

    def take(self, reader: object) -> Batch:
        """The next batch of `reader`. Raises for every student what was raised while it was built."""
        number = self._places[reader]
        while self._next <= number:
            self._held[self._next] = self._build()
            self._next += 1
        batch = self._held[number]
        self._places[reader] = number + 1
        self._drop()
        return batch

    def _build(self) -> Batch:
        if self._error is not None:
            raise self._error
        try:
            batch = self._decode(next(self._stream))
            return replace(batch, teacher_logits=TeacherLogits(self.most_bytes)) if self.most_bytes else batch
        except Exception as error:
            self._error = error
            raise

    def _drop(self) -> None:
        least = min(self._places.values(), default=self._next)
        for number in [number for number in self._held if number < least]:
            del self._held[number]


class _Reader(Iterator[Batch]):
    """One student's view of a shared read."""

    def __init__(self, read: SharedRead, first: int):
        self._read = read
        read.enter(self, first)

    def __next__(self) -> Batch:
        return self._read.take(self)

    def close(self) -> None:
        """Nothing is held for this student any more."""
        self._read.leave(self)


def _settings(builder: BatchBuilder) -> dict[str, Any]:
    return {name: value for name, value in vars(builder).items() if name not in OF_STUDENTS}
