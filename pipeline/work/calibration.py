"""Calibrating the codecs of a cache: once, by the worker that comes first, on samples that the plan has chosen."""

import math
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pipeline.corpus.sample import AnnotatedSample
from pipeline.encoding.calibrate import CALIBRATION, Goal, calibrate_final, calibrate_inner
from pipeline.encoding.encoder import Encoder
from pipeline.encoding.files import save_encoders
from pipeline.encoding.head import Head
from pipeline.teacher.batching import BatchRule
from pipeline.teacher.head import teacher_head
from pipeline.teacher.run import Teacher
from schemas.cache.arrays import ArrayRecord
from schemas.cache.encoding import EncodingRecord
from schemas.cache.manifest import CacheManifest
from schemas.errors import ModelError

FEW_TOKENS = 256  # by fewer, held out, nothing can be told: what was learnt from must do
MOST_ROWS = CALIBRATION.most  # one sample may be longer than all that are wanted
LAYERS_AT_ONCE = 4  # that are calibrated, on as many cores: each takes some 8 times the memory of its rows in float32
HELD_OUT = 1 / 3  # of the samples: nothing is learnt from them, and prices are chosen by them


def calibrate(
    cache: Path,
    manifest: CacheManifest,
    teacher: Teacher,
    samples: Sequence[AnnotatedSample],
    rule: BatchRule,
    owner: str,
) -> None:
    """Run the teacher over `samples`, learn the tables of every encoded array, and write CACHE/codecs.

    Raises ModelError: there are no tokens to learn from; and whatever `Teacher.run` raises.
    """
    encoding: EncodingRecord = manifest.records["hidden"]
    if not any(len(sample.token_ids) for sample in samples):
        raise ModelError(
            "codecs cannot be calibrated, because every sample chosen for it is left out as too long; raise "
            "teacher.max_tokens, or set states.encoding to exact"
        )
    cut = max(1, round(len(samples) * (1 - HELD_OUT)))
    learnt = teacher.run(samples[:cut], rule, lambda samples, tokens: None)
    enough = sum(len(sample.token_ids) for sample in samples[cut:]) >= FEW_TOKENS
    held_out = teacher.run(samples[cut:], rule, lambda samples, tokens: None) if enough else learnt
    head = teacher_head(teacher)
    arrays = [array for array in manifest.arrays if array.encoding == encoding.codec]

    def calibrated(array: ArrayRecord) -> Encoder:
        return _calibrate_array(array, manifest, learnt[array.path], held_out[array.path], encoding, head)

    # Each by as many threads as were asked for, because these decide how sums are rounded.
    threads = teacher.config.threads
    at_once = max(1, min(LAYERS_AT_ONCE, (os.cpu_count() or 1) // threads))
    with ThreadPoolExecutor(at_once, initializer=torch.set_num_threads, initargs=(threads,)) as pool:
        encoders = dict(zip(arrays, pool.map(calibrated, arrays), strict=True))
    save_encoders(cache, encoders, manifest.fingerprint_of(0), owner)


def _calibrate_array(
    array: ArrayRecord,
    manifest: CacheManifest,
    learnt: np.ndarray,
    held_out: np.ndarray,
    encoding: EncodingRecord,
    head: Head | None,
) -> Encoder:
    rows_Nd, held_out_Nd = _as_floats(learnt), _as_floats(held_out)
    if head is not None and array.layer == manifest.teacher.num_layers:
        bound = math.inf if encoding.worst_kl is None else encoding.worst_kl
        return calibrate_final(rows_Nd, held_out_Nd, head, Goal(encoding.kl, encoding.bits, bound))
    return calibrate_inner(rows_Nd, held_out_Nd, Goal(encoding.geometry, encoding.bits))


def _as_floats(bits: np.ndarray) -> Tensor:
    return torch.from_numpy(bits[:MOST_ROWS]).view(torch.bfloat16).float()
