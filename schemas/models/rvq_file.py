"""The tables of one array in CACHE/codecs, proven before anything is decoded by them."""

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from schemas.cache.arrays import ArrayRecord
from schemas.cache.codec_files import CODEC_FILES, CODEC_FOLDER, codec_file
from schemas.errors import CacheError
from schemas.models.rvq import WIDEST, RVQTables
from schemas.storage.regular import require_utf8

DTYPES = dict.fromkeys(RVQTables.__dataclass_fields__, torch.float32)
DTYPES |= {"bands": torch.int32, "band_S": torch.int32, "codebooks": torch.float16}


def load_tables(cache: Path, array: ArrayRecord) -> RVQTables:
    """Raises CacheError: missing, altered, or not tables of rows `array.width` wide."""
    path = cache / CODEC_FOLDER / codec_file(array)
    way_out = f"remove {path.parent} and extract again: no shard is redone"
    require_utf8(path, CacheError)
    if not path.is_file():
        raise CacheError(f"{path} is missing, by which the codes of {array.path} are decoded; {way_out}")
    record = CODEC_FILES.read_record(cache)
    if record is None:
        raise CacheError(f"{path.parent} has no files.json, so nothing proves its tables; {way_out}")
    CODEC_FILES.check_file(cache, path.name, record)
    try:
        tensors: dict[str, Tensor] = load_file(path)
    except (OSError, SafetensorError) as error:
        raise CacheError(f"cannot read {path}: {error}; {way_out}") from error
    if fault := find_fault(tensors, array.width or 1):
        raise CacheError(f"{path} does not hold tables of {array.path}: {fault}; {way_out}")
    return RVQTables.of(tensors)


def find_fault(tensors: dict[str, Tensor], width: int) -> str | None:
    """Why `tensors` are not tables of rows of that width, or None if they are."""
    if tensors.keys() != DTYPES.keys():
        return f"its tensors are {', '.join(sorted(tensors)) or 'none'}"
    shapes = _shapes(tensors, width)
    for name, tensor in tensors.items():
        if tensor.dtype != DTYPES[name] or tuple(tensor.shape) != shapes[name]:
            return f"{name} is {_said(tensor.dtype, tuple(tensor.shape))}, not {_said(DTYPES[name], shapes[name])}"
        if not tensor.isfinite().all():
            return f"{name} holds numbers that are not finite"
    return _find_fault_of_bands(RVQTables.of(tensors))


def _find_fault_of_bands(tables: RVQTables) -> str | None:
    start_B, end_B = tables.bands.unbind(1)
    components = len(tables.decoder_kd)
    if components != len(tables.mean_d):
        return f"it has {components} components"
    if start_B[0] != 0 or end_B[-1] != components or not torch.equal(start_B[1:], end_B[:-1]):
        return "its bands do not cover the components one after the other"
    if not ((start_B < end_B) & (end_B <= start_B + WIDEST)).all():
        return f"its bands are not 1 to {WIDEST} components wide"
    if not ((tables.band_S >= 0) & (tables.band_S < len(tables.bands))).all():
        return "a stage refines a band that there is not"
    if tables.header + len(tables.band_S) >= tables.raw_size:
        return f"its {len(tables.band_S)} stages take as many bytes as a row that is kept raw"
    return None


def _shapes(tensors: dict[str, Tensor], width: int) -> dict[str, tuple[int, ...]]:
    """What the shapes must be, as far as they follow from others."""
    components, bands, stages, centroids = (
        (len(tensors[name]) if tensors[name].ndim else 0) for name in ("decoder_kd", "bands", "band_S", "centroids")
    )
    return {
        "mean_d": (width,),
        "decoder_kd": (components, width),
        "encoder_dk": (width, components),
        "gains": (256,),
        "centroids": (256 if centroids else 0, components),
        "bands": (max(1, bands), 2),
        "band_S": (stages,),
        "codebooks": (stages, 256, WIDEST),
        "scales_TB": (stages + 1, bands),
    }


def _said(dtype: torch.dtype, shape: tuple[int, ...]) -> str:
    return f"{str(dtype).removeprefix('torch.')} {list(shape)}"
