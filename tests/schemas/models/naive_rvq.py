"""Tables of residual vector quantisation made by hand, rows for them, and a decoder in plain NumPy."""

from dataclasses import fields
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from schemas.cache.codec_files import CODEC_FILES
from schemas.models.rvq import WIDEST, RVQTables


def handmade_tables(seed: int, width: int = 20, stages: int = 11, inner: bool = False) -> RVQTables:
    """Bands of several widths, the last never refined; scales that differ by band and length if `inner`."""
    random = np.random.default_rng(seed)

    def randn(*shape: int) -> Tensor:
        return torch.from_numpy(random.standard_normal(shape)).float()

    cuts = sorted({0, width, *range(0, width, WIDEST), *random.integers(1, width, 2).tolist()})
    bands = torch.tensor(list(pairwise(cuts)), dtype=torch.int32)
    band_S = torch.from_numpy(random.integers(0, len(bands) - 1, stages)).int()
    codebooks = randn(stages, 256, WIDEST).half()
    for stage, band in enumerate(band_S.tolist()):
        codebooks[stage, :, int(bands[band, 1] - bands[band, 0]) :] = 0
    basis = torch.linalg.qr(randn(width, width))[0]
    return RVQTables(
        mean_d=10 * randn(width),
        decoder_kd=basis.T.contiguous(),
        encoder_dk=basis,
        gains=randn(256).exp(),
        centroids=randn(256 if inner else 0, width),
        bands=bands,
        band_S=band_S,
        codebooks=codebooks,
        scales_TB=1 + randn(stages + 1, len(bands)).abs() if inner else torch.ones(stages + 1, len(bands)),
    )


def random_rows(tables: RVQTables, count: int, seed: int, raw: float = 0.1) -> tuple[Tensor, Tensor]:
    """Bytes and int32 sizes of rows of any number of stages, some of them raw."""
    random = np.random.default_rng(seed)
    sizes = tables.header + random.integers(0, len(tables.band_S) + 1, count)
    is_raw = random.random(count) < raw
    rows = [random.integers(0, 256, size, dtype=np.uint8) for size in sizes]
    for row in np.flatnonzero(is_raw):
        state = torch.from_numpy(random.standard_normal(tables.raw_size // 2)).bfloat16()
        rows[row] = state.view(torch.uint8).numpy()
    sizes[is_raw] = tables.raw_size
    data = np.concatenate([np.empty(0, np.uint8), *rows])
    return torch.from_numpy(data), torch.from_numpy(sizes.astype(np.int32))


def decode(tables: RVQTables, data: Tensor, size_N: Tensor) -> np.ndarray:
    """[N, d] float64, row by row and stage by stage."""
    t = {field.name: getattr(tables, field.name).numpy() for field in fields(tables)}
    header, width, numbers = 1 + (len(t["centroids"]) > 0), len(t["mean_d"]), data.numpy()
    states, start = [np.empty((0, width))], 0
    for size in size_N.tolist():
        row = numbers[start : start + size]
        start += size
        if size == 2 * width:
            bits = np.frombuffer(row.tobytes(), "<u2").astype(np.uint32) << 16
            states.append(bits.view(np.float32).astype(np.float64)[None])
            continue
        y = np.zeros(len(t["decoder_kd"]))
        for stage in range(size - header):
            first, end = t["bands"][t["band_S"][stage]]
            y[first:end] += t["codebooks"][stage, row[header + stage], : end - first].astype(np.float64)
        for band, (first, end) in enumerate(t["bands"]):
            y[first:end] *= t["scales_TB"][size - header, band]
        if header == 2:
            y += t["centroids"][row[1]]
        states.append((t["mean_d"] + float(t["gains"][row[0]]) * y @ t["decoder_kd"].astype(np.float64))[None])
    assert start == len(numbers)
    return np.concatenate(states)


def tensors_of(tables: RVQTables) -> dict[str, Tensor]:
    return {name: getattr(tables, name).contiguous() for name in RVQTables.__dataclass_fields__}


def write_tables(cache: Path, tensors: dict[str, Tensor], layer: int = 2) -> Path:
    """Into CACHE/codecs, as what its arrays hidden/LAYER are decoded by."""
    folder = cache / "codecs"
    folder.mkdir(exist_ok=True)
    save_file(tensors, folder / f"hidden-{layer}.safetensors")
    CODEC_FILES.write_record(folder)
    return folder / f"hidden-{layer}.safetensors"
