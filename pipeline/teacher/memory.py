"""A batch for which memory runs out is halved and tried again, down to one sample.

A sample's states agree with those of another batch to rounding, but not always to the bit: a batch of another size may
take other kernels. So every halving is told, and a shard records it.
"""

from collections.abc import Callable

import torch


class OneSampleTooLarge(Exception):
    """Memory cannot hold even one sample alone. `index` is the sample's; the message is the allocator's."""

    def __init__(self, index: int, said: str):
        super().__init__(said)
        self.index = index


def run_in_parts(batch: list[int], run: Callable[[list[int]], None], on_halved: Callable[[list[int]], None]) -> None:
    """`run` a batch or, if memory runs out, its halves in their order, and so on.

    `run` must leave nothing behind when it fails that it does not overwrite when it is called again; `on_halved` is
    told of every batch that was too large. Raises OneSampleTooLarge.
    """
    waiting = [batch]
    while waiting:
        part = waiting.pop()
        said = _out_of_memory(run, part)
        if said is None:
            continue
        if len(part) == 1:
            raise OneSampleTooLarge(part[0], said)
        on_halved(part)
        middle = (len(part) + 1) // 2
        waiting += [part[middle:], part[:middle]]


def _out_of_memory(run: Callable[[list[int]], None], part: list[int]) -> str | None:
    """The allocator's message, or None. The error itself is let go: its traceback keeps the tensors of the pass."""
    try:
        run(part)
        return None
    except torch.OutOfMemoryError as error:
        said = str(error)
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return said
