"""The hidden states of a unit as they lie on disk, and what that cost. On the device where the teacher is.

Shapes: N rows of an array, d hidden size.
"""

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pipeline.encoding.cost import measure_cost
from pipeline.encoding.files import load_encoder
from pipeline.encoding.head import Head
from pipeline.encoding.row_scaled import encode_fp8, encode_int8
from schemas.cache.arrays import ArrayRecord
from schemas.cache.encoding_cost import EncodingCost
from schemas.cache.manifest import CacheManifest
from schemas.cache.ragged import RaggedRows
from schemas.cache.sections import array_folders
from schemas.cache.states import Values
from schemas.models.state_decoder import DECODERS

ROWS_AT_ONCE = 4096
# A stage is some fifteen launches on a GPU, each far longer to make than to run on few rows: so many numbers of float32
# at once, 128 MB, of which up to five exist beside the teacher's next batch.
NUMBERS_ON_GPU = 2**25
ROW_SCALED: Mapping[str, Callable[[Tensor], Tensor]] = {"fp8": encode_fp8, "int8": encode_int8}

Encode = Callable[[Tensor], tuple[Tensor, Tensor]]  # states [N, d] -> bytes, one row after the other; sizes [N] int32


class UnitEncoder:
    """Encodes those arrays of a unit that are encoded in its cache."""

    def __init__(self, cache: Path, manifest: CacheManifest, head: Head | None, device: torch.device):
        """`head` is the teacher's, on the same device. Raises CacheError: codecs/ is missing or altered."""
        folders = array_folders(cache, manifest)
        self._device, self._head, self._last = device, head, manifest.teacher.num_layers
        # A stream of its own, which comes first: in the teacher's, each wait would last until its batches are done.
        self._stream = torch.cuda.Stream(device, priority=-1) if device.type == "cuda" else None
        self._arrays = [array for array in manifest.arrays if array.encoding in DECODERS]
        self._encoders = {array.path: _find_encode(folders[array.path], array, device) for array in self._arrays}
        self._decoders = {a.path: DECODERS[a.encoding].load(folders[a.path], a).to(device) for a in self._arrays}
        if self._stream is not None:
            self._stream.wait_stream(torch.cuda.current_stream(device))  # where tables and head were made

    @torch.inference_mode()
    def encode(
        self, arrays: Mapping[str, np.ndarray | RaggedRows]
    ) -> tuple[dict[str, Values], dict[str, EncodingCost]]:
        """`arrays` by path, bfloat16 as uint16, with the encoded ones in the place of the raw; their costs by path."""
        found, costs = dict[str, Values](arrays), dict[str, EncodingCost]()
        with nullcontext() if self._stream is None else torch.cuda.stream(self._stream):
            for array in self._arrays:
                found[array.path], costs[array.path] = self._encode_array(array, found[array.path])
        return found, costs

    def _encode_array(self, array: ArrayRecord, values: Values) -> tuple[Values, EncodingCost]:
        assert isinstance(values, np.ndarray)
        true_Nd = torch.from_numpy(values).view(torch.bfloat16)
        data, size_N = self._bytes(array, true_Nd)
        head = self._head if array.layer == self._last else None
        cost = measure_cost(true_Nd, data, size_N, self._decoders[array.path], head)
        return _as_stored(array, data.cpu().numpy(), size_N.cpu().numpy()), cost

    def _bytes(self, array: ArrayRecord, true_Nd: Tensor) -> tuple[Tensor, Tensor]:
        encode, rows = self._encoders[array.path], ROWS_AT_ONCE
        if self._device.type != "cpu":
            rows = max(rows, NUMBERS_ON_GPU // true_Nd.shape[1])
        parts = [encode(some_Nd.to(self._device)) for some_Nd in true_Nd.split(rows) if len(some_Nd)]
        if not parts:
            return torch.empty(0, dtype=torch.uint8), torch.empty(0, dtype=torch.int32)
        return torch.cat([data for data, _ in parts]), torch.cat([sizes for _, sizes in parts])


def _find_encode(cache: Path, array: ArrayRecord, device: torch.device) -> Encode:
    if array.encoding in ROW_SCALED:
        return lambda states_Nd: _equal_rows(ROW_SCALED[array.encoding](states_Nd))
    encoder = load_encoder(cache, array).to(device)

    def encode(states_Nd: Tensor) -> tuple[Tensor, Tensor]:
        rows = encoder.encode(states_Nd)
        return rows.data, rows.size_N

    return encode


def _equal_rows(bytes_Nx: Tensor) -> tuple[Tensor, Tensor]:
    sizes = torch.full((len(bytes_Nx),), bytes_Nx.shape[1], dtype=torch.int32, device=bytes_Nx.device)
    return bytes_Nx.flatten(), sizes


def _as_stored(array: ArrayRecord, data: np.ndarray, sizes: np.ndarray) -> Values:
    return data.reshape(len(sizes), -1) if array.encoding in ROW_SCALED else RaggedRows.of(data, sizes)
