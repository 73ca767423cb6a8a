"""From cached samples to padded batches: student tokens, and the answers to what an objective asks for.

Tokenizing and aligning cost well under a millisecond per sample, so they are done anew in every epoch.
"""

import signal
import sys
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from schemas.cache.reader import Cache
from trainer.alignment.student_text import TextTokenizer
from trainer.alignment.target_tokens import teacher_target
from trainer.data.batch import Batch
from trainer.data.padding import lengths_mask, pad_rows
from trainer.data.request import BatchRequest, Drawn
from trainer.data.sampler import BatchOrder


class BatchBuilder(Dataset[Batch]):
    """Positions in, a Batch out. Used as a map-style dataset whose index is a whole batch of positions."""

    def __init__(self, cache: Cache, text_tokenizer: TextTokenizer, requests: Iterable[BatchRequest[Any]]):
        """Raises CacheError if the cache lacks an array that is asked for."""
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
        return Batch(
            sample_ids=tuple(sample.id for sample in samples),
            tokens_BS=pad_rows([text.ids for text in texts], 0),
            mask_BS=lengths_mask([text.length for text in texts], max(len(text.ids) for text in texts)),
            target_BS=pad_rows([text.target for text in texts], False),
            teacher_tokens_BT=pad_rows([sample.token_ids.astype(np.int64) for sample in samples], 0),
            teacher_mask_BT=lengths_mask(teacher_tokens, max(teacher_tokens)),
            teacher_target_BT=pad_rows([teacher_target(sample) for sample in samples], False),
            answers={request: request.collate(drawn) for request in self.requests},
        )


def batches(builder: BatchBuilder, order: BatchOrder, workers: int) -> "DataLoader[Batch]":
    """Endless batches in `order`; `workers` processes read ahead."""
    return DataLoader(
        builder,
        sampler=order,
        batch_size=None,
        num_workers=workers,
        collate_fn=_as_is,
        multiprocessing_context=_context(workers),
        worker_init_fn=_leave_interrupts,
        # Starting an iterator draws a number; from the global generator, a resumed run would miss one.
        generator=torch.Generator(),
    )


def _leave_interrupts(worker: int) -> None:
    # A terminal interrupts the workers too; the training answers for all, and they end with it: without a word, where
    # it was just fetching a batch.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.excepthook = _say_unless_alone


def _say_unless_alone(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if not issubclass(kind, ConnectionError):
        sys.__excepthook__(kind, error, trace)


def _as_is(batch: Any) -> Any:
    return batch


def _context(workers: int) -> str | None:
    # Open maps and the tokenizer are inherited by a fork; they cannot be sent to a fresh process.
    return "fork" if workers else None
