"""Encoded caches without Ray: the samples and states of a raw one, its hidden states in another encoding."""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from pipeline.encoding.encoder import Encoder
from pipeline.encoding.train import keep_energy, train_final, train_inner
from schemas.cache.arrays import ArrayRecord
from schemas.cache.index import write_index
from schemas.cache.ragged import RaggedRows, concatenate
from schemas.cache.reader import Cache
from schemas.cache.states import Values
from schemas.cache.writer import write_manifest, write_shard
from schemas.storage.fingerprint import fingerprint
from tests.schemas.models.naive_rvq import handmade_tables, tensors_of, write_tables

CALIBRATION_ROWS = 6000
Encode = Callable[[Tensor], Values]  # of states [N, d] in float32


def encode_cache(
    raw: Path,
    folder: Path,
    encoding: str,
    stages: float = 0.4,
    inner_stages: float = 0.4,
    worst: float = 0.0,
) -> Path:
    """The cache `raw` with every layer of hidden states in `encoding`, in `folder`.

    Of rvq, so many stages per component are learnt of the cache's own first rows, in the final layer and in inner ones;
    a byte costs so much that about the `worst` share of the rows are kept raw.
    """
    cache = Cache(raw)
    shutil.copytree(raw / "teacher", folder / "teacher")
    if encoding == "rvq":
        last = cache.manifest.teacher.num_layers
        encoders = {
            array.layer: _learn(cache, array, stages if array.layer == last else inner_stages, worst)
            for array in cache.arrays_of("hidden")
        }
        for layer, encoder in encoders.items():
            write_tables(folder, tensors_of(encoder.tables), layer)
        return write_encoded(cache, folder, encoding, {layer: _by(encoder) for layer, encoder in encoders.items()})
    encode = {"fp8": to_fp8, "int8": to_int8}[encoding]
    return write_encoded(cache, folder, encoding, {array.layer: encode for array in cache.arrays_of("hidden")})


def invent_cache(raw: Path, folder: Path, stages: float, inner_stages: float) -> Path:
    """The samples of the cache `raw` with hidden states that nobody computed: random codes of so many stages per
    component, all stages in every row. For measuring speed, which does not depend on what states are."""
    cache, encode = Cache(raw), dict[int, Encode]()
    shutil.copytree(raw / "teacher", folder / "teacher")
    for array in cache.arrays_of("hidden"):
        width, inner = array.width or 1, array.layer < cache.manifest.teacher.num_layers
        tables = handmade_tables(0, width, round(width * (inner_stages if inner else stages)), inner)
        every_band = torch.arange(len(tables.band_S), dtype=torch.int32) % len(tables.bands)
        # No component can be left out of a folded head, and states are as large as ones behind a norm.
        tables = replace(tables, band_S=every_band, mean_d=tables.mean_d / 10, gains=torch.full((256,), 0.5))
        write_tables(folder, tensors_of(tables), array.layer)
        encode[array.layer] = _random(tables.header + len(tables.band_S))
    return write_encoded(cache, folder, "rvq", encode)


def _random(size: int) -> Encode:
    def encode(states_Nd: Tensor) -> RaggedRows:
        sizes = np.full(len(states_Nd), size)
        return RaggedRows.of(np.random.default_rng(0).integers(0, 256, int(sizes.sum()), dtype=np.uint8), sizes)

    return encode


def write_encoded(cache: Cache, folder: Path, encoding: str, encode: Mapping[int, Encode]) -> Path:
    """Every shard of `cache`, hidden states encoded by layer, into `folder`, where teacher/ and codecs/ are already."""
    records = [
        array.model_copy(update={"encoding": encoding}) if array.kind == "hidden" else array
        for array in cache.manifest.arrays
    ]
    states = {array.path: array.model_dump(include={"width", "dtype", "encoding"}) for array in records}
    identity = {**cache.manifest.identity, "states": states}
    update: dict[str, Any] = {"identity": identity, "fingerprint": fingerprint(identity), "arrays": records}
    manifest = cache.manifest.model_copy(update=update)
    write_manifest(folder, manifest)
    for unit in range(manifest.units):
        positions = np.flatnonzero(cache.shards == unit).tolist()
        samples = [cache.sample(position) for position in positions]
        arrays: dict[str, Values] = {}
        for array in cache.manifest.arrays:
            parts = [cache.states(position, [array])[0] for position in positions]
            rows: Any = concatenate(parts) if isinstance(parts[0], RaggedRows) else np.concatenate(parts)
            arrays[array.path] = encode[array.layer](_numbers(array, rows)) if array.kind == "hidden" else rows
        write_shard(folder, unit, samples, arrays, records, manifest.fingerprint, 0)
    write_index(folder, manifest)
    return folder


def to_fp8(states_Nd: Tensor) -> np.ndarray:
    """uint8 [N, d + 4]: 448 is the largest of E4M3."""
    scale_N1 = states_Nd.abs().amax(1, keepdim=True) / 448
    return _scaled((states_Nd / scale_N1).to(torch.float8_e4m3fn).view(torch.uint8), scale_N1)


def to_int8(states_Nd: Tensor) -> np.ndarray:
    """uint8 [N, d + 4]."""
    scale_N1 = states_Nd.abs().amax(1, keepdim=True) / 127
    return _scaled((states_Nd / scale_N1).round().to(torch.int8).view(torch.uint8), scale_N1)


def _scaled(codes_Nd: Tensor, scale_N1: Tensor) -> np.ndarray:
    return torch.cat([codes_Nd, scale_N1.contiguous().view(torch.uint8)], 1).numpy()


def _by(encoder: Encoder) -> Encode:
    def encode(states_Nd: Tensor) -> RaggedRows:
        rows = encoder.encode(states_Nd)
        return RaggedRows.of(rows.data.numpy(), rows.size_N.numpy())

    return encode


def _learn(cache: Cache, array: ArrayRecord, stages: float, worst: float) -> Encoder:
    rows, count = [], 0
    for position in range(len(cache)):
        if count < CALIBRATION_ROWS:
            rows.append(_numbers(array, cache.states(position, [array])[0]))
            count += len(rows[-1])
    rows_Nd, number = torch.cat(rows), max(1, round(stages * (array.width or 1)))
    final = array.layer == cache.manifest.teacher.num_layers
    encoder = train_final(rows_Nd, torch.eye(rows_Nd.shape[1]), number) if final else train_inner(rows_Nd, number)
    codes = encoder.codes(rows_Nd)
    # A row of all stages is kept raw if its error is above the price of the bytes that they spare.
    spared = encoder.tables.raw_size - codes.bytes_Nx.shape[1]
    encoder = encoder.at(float(codes.error_NT[:, -1].quantile(1 - worst)) / spared)
    return encoder if final else keep_energy(encoder, rows_Nd, codes)


def _numbers(array: ArrayRecord, rows: np.ndarray) -> Tensor:
    found = torch.from_numpy(np.ascontiguousarray(rows))
    return (found.view(torch.bfloat16) if array.dtype == "bfloat16" else found).float()
