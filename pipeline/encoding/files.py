"""Encoders in CACHE/codecs: beside the tables of an array, which readers want, what only an encoder needs."""

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from pipeline.encoding.encoder import Encoder
from pipeline.encoding.stages import Stages
from schemas.cache.arrays import ArrayRecord
from schemas.cache.codec_files import CODEC_FILES, CODEC_FOLDER, codec_file
from schemas.cache.recorded_folder import FILES
from schemas.models.rvq import RVQTables
from schemas.models.rvq_file import load_tables
from schemas.storage.atomic import disk_full, folder_beside
from schemas.storage.published import commit_folder


def encoder_file(array: ArrayRecord) -> str:
    """The name of what an encoder needs beside the tables, e.g. hidden-12.encoder.safetensors."""
    return codec_file(array).replace(".safetensors", ".encoder.safetensors")


def save_encoders(
    cache: Path, encoders: Mapping[ArrayRecord, Encoder], fingerprint: str | None = None, owner: str = ""
) -> None:
    """Write CACHE/codecs, whole or not at all; one that is there stays. Raises ResourceError if the disk is full."""
    target = cache / CODEC_FOLDER
    with disk_full(CODEC_FOLDER, cache), folder_beside(target, owner) as folder:
        for array, encoder in encoders.items():
            tables = {name: getattr(encoder.tables, name) for name in RVQTables.__dataclass_fields__}
            _save(tables, folder / codec_file(array))
            _save(_beside_tables(encoder), folder / encoder_file(array))
        CODEC_FILES.write_record(folder, **({} if fingerprint is None else {"fingerprint": fingerprint}))
        commit_folder(folder, target, FILES)


def load_encoder(cache: Path, array: ArrayRecord) -> Encoder:
    """The encoder of one array, on the CPU. Raises CacheError: its files are missing or altered."""
    tables, name = load_tables(cache, array), encoder_file(array)
    CODEC_FILES.check_file(cache, name, CODEC_FILES.read_record(cache))
    beside = load_file(cache / CODEC_FOLDER / name)
    bands: list[tuple[int, int]] = [(start, end) for start, end in tables.bands.tolist()]
    band_S = tables.band_S.tolist()
    codebooks = [
        codebook[:, : bands[band][1] - bands[band][0]].float()
        for band, codebook in zip(band_S, tables.codebooks, strict=True)
    ]
    price, bound = beside["price_and_bound"].tolist()
    return Encoder(
        tables=tables,
        stages=Stages(bands, band_S, codebooks),
        weight_k=beside["weight_k"],
        deviation_k=beside.get("deviation_k"),
        price=price,
        bound=bound,
    )


def _beside_tables(encoder: Encoder) -> dict[str, Tensor]:
    found = {
        "weight_k": encoder.weight_k,
        "price_and_bound": torch.tensor([encoder.price, encoder.bound], dtype=torch.float64),
    }
    return found if encoder.deviation_k is None else found | {"deviation_k": encoder.deviation_k}


def _save(tensors: dict[str, Tensor], path: Path) -> None:
    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, path)
