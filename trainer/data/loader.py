"""From cached samples to padded batches: student tokens, and the answers to what an objective asks for.

Tokens are made once, if the tokenizer keeps them (`trainer.kept_texts`). Aligning costs a tenth of that and less per
request, so it is done anew in every epoch.
"""

import math
from collections import deque
from collections.abc import Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np

from schemas.cache.readable import ReadableCache
from trainer.alignment.student_text import TextTokenizer
from trainer.alignment.target_tokens import teacher_target
from trainer.data.batch import Batch
from trainer.data.packing import Packing
from trainer.data.padding import lengths_mask, pad_rows
from trainer.data.request import BatchRequest, Drawn


class BatchBuilder:
    """Positions in, a Batch out. Several threads may ask at once."""

    def __init__(
        self,
        cache: ReadableCache,
        text_tokenizer: TextTokenizer,
        requests: Iterable[BatchRequest[Any]],
        packed_from: float = math.inf,
    ):
        """Batches are packed if this share of them or more would be padding.

        Raises CacheError if the cache lacks an array that is asked for.
        """
        self.packed_from = packed_from
        self.cache, self.tokenize = cache, text_tokenizer
        self.requests = sorted(set(requests), key=repr)  # a set has an order of its own in every process
        for request in self.requests:
            request.require(cache)

    def __getitem__(self, positions: Sequence[int]) -> Batch:
        """Raises PairingError that names the sample whose tokens or states do not fit together."""
        samples = [self.cache.sample(position) for position in positions]
        texts = self.tokenize(samples)
        drawn = Drawn(self.cache, positions, samples, texts)
        teacher_tokens = [len(sample.token_ids) for sample in samples]
        lengths = [len(text.ids) for text in texts]
        padding = 1 - sum(lengths) / max(1, len(lengths) * max(lengths))
        return Batch(
            sample_ids=tuple(sample.id for sample in samples),
            tokens_BS=pad_rows([text.ids for text in texts], 0),
            mask_BS=lengths_mask([text.length for text in texts], max(lengths)),
            target_BS=pad_rows([text.target for text in texts], False),
            teacher_tokens_BT=pad_rows([sample.token_ids.astype(np.int64) for sample in samples], 0),
            teacher_mask_BT=lengths_mask(teacher_tokens, max(teacher_tokens)),
            teacher_target_BT=pad_rows([teacher_target(sample) for sample in samples], False),
            answers={request: request.collate(drawn) for request in self.requests},
            packing=Packing.of(lengths, max(lengths)) if padding >= self.packed_from else None,
        )


def batches(
    builder: BatchBuilder, order: Iterable[Sequence[int]], workers: int, ahead: int = 1, pinned: bool = False
) -> Generator[Batch, None, None]:
    """The batches of `order`, one after the other; each of `workers` threads builds one, and `ahead` wait to be taken.

    Threads do, because the tokenizer, the copies and the checksums run outside the interpreter's lock, and what they
    make needs no second copy through shared memory. `pinned` batches lie where a GPU can fetch them by itself. An error
    is raised where its batch would have come. What was read ahead is dropped when the iterator is.
    """

    def build(positions: Sequence[int]) -> Batch:
        batch = builder[positions]
        return batch.pinned() if pinned else batch

    if not workers:
        yield from map(build, order)
        return
    pool = ThreadPoolExecutor(workers, thread_name_prefix="stillroom-loader")
    try:
        waiting: deque[Future[Batch]] = deque()
        for positions in order:
            waiting.append(pool.submit(build, positions))
            if len(waiting) == workers + ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
