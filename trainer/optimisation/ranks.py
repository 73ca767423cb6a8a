"""The processes that train one student together, and what they tell each other.

Each rank reads its share of every batch. Divisors, values and gradients are summed, never averaged: a rank's loss is
its part of the loss of the whole batch.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist

from schemas.errors import StillroomError, error_of, kind_of
from schemas.failures import describe_failure

Number = TypeVar("Number", int, float)


@dataclass(frozen=True)
class Ranks:
    """All ranks as one of them sees them. Alone, nothing is told to anybody, and needs no process group.

    What they tell each other goes through the CPU, as JSON: a few hundred bytes per step, which wait for no GPU.
    """

    rank: int = 0
    size: int = 1

    @staticmethod
    def here() -> "Ranks":
        """Those of this process's group; alone if there is none."""
        return Ranks(dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else Ranks()

    @property
    def is_first(self) -> bool:
        """Whether this is the rank that writes and that speaks to the user."""
        return self.rank == 0

    def share(self, batch: Sequence[int]) -> Sequence[int]:
        """The positions of `batch` that this rank reads: every size-th one, so that samples which are sorted by length
        are shared out evenly. None of a batch that has no more positions than there are ranks before this one."""
        return batch[self.rank :: self.size]

    def gather(self, value: Any) -> list[Any]:
        """The `value` of every rank, in the order of ranks. Every rank must call it, and waits for the others."""
        if self.size == 1:
            return [value]
        text = torch.tensor(list(json.dumps(value).encode()), dtype=torch.uint8)
        lengths = [torch.zeros(1, dtype=torch.long) for _ in range(self.size)]
        dist.all_gather(lengths, torch.tensor([len(text)]))
        longest = max(int(length) for length in lengths)
        padded = torch.zeros(longest, dtype=torch.uint8)
        padded[: len(text)] = text
        texts = [torch.zeros(longest, dtype=torch.uint8) for _ in range(self.size)]
        dist.all_gather(texts, padded)
        return [json.loads(bytes(t[: int(n)].tolist())) for t, n in zip(texts, lengths, strict=True)]

    def by_first(self, work: Callable[[], Any]) -> Any:
        """What `work`, which the first rank alone does, returns there, as JSON can say it. Every rank raises what it
        refuses, and what storage refuses it."""
        found: Any = None
        refused: StillroomError | OSError | None = None
        if self.is_first:
            try:
                found = work()
            except (StillroomError, OSError) as error:
                refused = error
        words = refused and (describe_failure(refused) or str(refused))
        found, told = self.gather([found, refused and (kind_of(refused), words)])[0]
        if told is not None:
            raise refused or error_of(*told)
        return found

    def sum(self, values: Mapping[str, Number]) -> dict[str, Number]:
        """The sums over all ranks, by name, added in the order of ranks; a rank may lack a name."""
        total: dict[str, Number] = {}
        for own in self.gather(dict(values)):
            for name, value in own.items():
                total[name] = total[name] + value if name in total else value
        return total


ALONE = Ranks()
