"""How many bytes each array of a cache will take, as it is asked for and under every preset of an encoding."""

from collections.abc import Mapping

from pipeline.corpus.plan import bytes_per_row, count_array_rows
from pipeline.request.request import Request
from schemas.cache.arrays import ArrayRecord
from schemas.cache.encoding import PRESETS, EncodingRecord, Preset, resolve_encoding

Sizes = dict[str, int]  # by an array's path


def array_rows(request: Request) -> Sizes:
    """About how many rows all shards will have of each array."""
    return {
        array.path: round(count_array_rows(request.plan, array, request.causal)) for array in request.manifest.arrays
    }


def array_bytes(request: Request, rows: Mapping[str, int]) -> Sizes:
    """Of so many rows; a layer that is still to be calibrated is guessed from what real models took."""
    arrays, bits = request.manifest.arrays, request.expected_bits
    return {array.path: round(rows[array.path] * bytes_per_row(array, bits)) for array in arrays}


def preset_bytes(request: Request, rows: Mapping[str, int]) -> dict[Preset, Sizes]:
    """The same of hidden states under every preset; of others, and where states are not bfloat16, nothing."""
    hidden = [array for array in request.manifest.arrays if array.kind == "hidden" and array.dtype == "bfloat16"]
    found = dict[Preset, Sizes]()
    for preset in PRESETS if hidden else ():
        encoding = resolve_encoding(preset, "bfloat16")
        found[preset] = {array.path: round(rows[array.path] * _per_row(request, array, encoding)) for array in hidden}
    return found


def _per_row(request: Request, array: ArrayRecord, encoding: EncodingRecord | None) -> float:
    codec = "raw" if encoding is None else encoding.codec
    bits: Mapping[str, float] = {}
    if encoding is not None and encoding.is_calibrated:
        teacher = request.manifest.teacher
        bits = {array.path: encoding.expected_bits(array.layer == teacher.num_layers and teacher.head is not None)}
    return bytes_per_row(array.model_copy(update={"encoding": codec}), bits)
