"""The order of the samples: a pure function of (seed, epoch), so that a cursor of one number resumes it exactly."""

from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler


class BatchOrder(Sampler[list[int]]):
    """Endless batches of positions. Every epoch visits each sample once; a batch may straddle two epochs."""

    def __init__(self, num_samples: int, batch_size: int, seed: int, start: int = 0):
        """`start` is the number of batches already consumed."""
        self.num_samples, self.batch_size, self.seed, self.start = num_samples, batch_size, seed, start

    def __iter__(self) -> Iterator[list[int]]:
        cursor = self.start * self.batch_size
        epoch, order = -1, np.empty(0, int)
        while True:
            batch = []
            for place in range(cursor, cursor + self.batch_size):
                if place // self.num_samples != epoch:
                    epoch = place // self.num_samples
                    order = np.random.default_rng((self.seed, epoch)).permutation(self.num_samples)
                batch.append(int(order[place % self.num_samples]))
            cursor += self.batch_size
            yield batch
