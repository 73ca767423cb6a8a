"""Calibrating the codecs of a cache: once, by the worker that comes first, on samples that the plan has chosen."""

import logging
import math
import os
from collections.abc import Callable, Sequence
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
from schemas.failures import memory_failed

logger = logging.getLogger(__name__)

FEW_TOKENS = 256  # by fewer, held out, nothing can be told: what was learnt from must do
MOST_ROWS = CALIBRATION.most  # one sample may be longer than all that are wanted
LAYERS_AT_ONCE = 4  # that are calibrated, on as many cores: each takes some 8 times the memory of its rows in float32
CPU = torch.device("cpu")
HELD_OUT = 1 / 3  # of the samples: nothing is learnt from them, and prices are chosen by them


def calibrate(
    cache: Path,
    manifest: CacheManifest,
    teacher: Teacher,
    samples: Sequence[AnnotatedSample],
    rule: BatchRule,
    owner: str,
) -> None:
    """Run the teacher over `samples`, learn the tables of every encoded array on its device, and write CACHE/codecs.

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
        rows_Nd, held_out_Nd = (_as_floats(made[array.path]) for made in (learnt, held_out))

        def on(device: torch.device) -> Encoder:
            return _calibrate_array(array, manifest, rows_Nd.to(device), held_out_Nd.to(device), encoding, head).to(CPU)

        return where_it_fits(on, teacher.device, array.path)

    # On a CPU each by as many threads as were asked for, because these decide how sums are rounded.
    threads = teacher.config.threads
    cores = (os.cpu_count() or 1) if teacher.device.type == "cpu" else 1
    at_once = max(1, min(LAYERS_AT_ONCE, cores // threads))
    with ThreadPoolExecutor(at_once, initializer=torch.set_num_threads, initargs=(threads,)) as pool:
        encoders = dict(zip(arrays, pool.map(calibrated, arrays), strict=True))
    save_encoders(cache, encoders, manifest.fingerprint_of(0), owner)


def where_it_fits(calibrated: Callable[[torch.device], Encoder], device: torch.device, array: str) -> Encoder:
    """What is calibrated on `device`; or on the CPU, if the device has no memory left for it beside the teacher."""
    try:
        return calibrated(device)
    except Exception as error:
        if device == CPU or not memory_failed(error):
            raise
    # Not in the handler, where the error holds on to what took the memory.
    logger.warning("%s is calibrated on the CPU, which takes longer: the GPU has no memory left for it", array)
    return calibrated(CPU)


def _calibrate_array(
    array: ArrayRecord,
    manifest: CacheManifest,
    rows_Nd: Tensor,
    held_out_Nd: Tensor,
    encoding: EncodingRecord,
    head: Head | None,
) -> Encoder:
    if head is not None and array.layer == manifest.teacher.num_layers:
        bound = math.inf if encoding.worst_kl is None else encoding.worst_kl
        return calibrate_final(rows_Nd, held_out_Nd, head, Goal(encoding.kl, encoding.bits, bound))
    return calibrate_inner(rows_Nd, held_out_Nd, Goal(encoding.geometry, encoding.bits))


def _as_floats(bits: np.ndarray) -> Tensor:
    return torch.from_numpy(bits[:MOST_ROWS]).view(torch.bfloat16).float()
