"""The likeliest next tokens at every token; what is left of 1 is known as a sum."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from pydantic import Field

from schemas.bounds import Entries, Temperature
from schemas.cache.arrays import ArrayRecord
from schemas.cache.encoding_cost import EncodingCost, describe_divergences, rounded
from schemas.cache.kinds.next_token import TOLERANCE, NextToken, SparseRecord
from schemas.cache.packed_ids import pack_ids, packed_bytes, unpack_ids
from schemas.cache.packed_logprobs import pack_logprobs, unpack_logprobs
from schemas.cache.teacher import TeacherRecord
from schemas.strict import Strict


class TopKConfig(Strict):
    """The likeliest next tokens at every token; what is left of 1 is known as a sum."""

    k: Entries = 64
    """How many; about 2.7 bytes each, at every token."""
    temperature: Temperature = 1.0
    """They are of softmax(z / temperature)."""


class TopK(NextToken[TopKConfig]):
    """Plain: [N, k] ids and [N, k + 1] log-probabilities, the last of all others together.

    Packed: ids, ascending, by Elias-Fano; a byte for each log-probability; the row's step and tail.
    """

    name = "top_k"
    order = 3
    parts = ("ids", "codes", "scales")
    former = ("ids", "logprobs")
    tail = 1
    field = (TopKConfig | None, Field(None, description="Sparse teacher logits; null for none."))

    def make_record(self, settings: TopKConfig, teacher: TeacherRecord) -> SparseRecord:
        """The settings, under the names of cache.json."""
        return SparseRecord(temperature=settings.temperature, entries=settings.k)

    def packed_arrays(self, record: SparseRecord, teacher: TeacherRecord) -> list[ArrayRecord]:
        """uint8 [N, packed_bytes] ids and [N, k] codes, float16 [N, 2] scales."""
        k, layer = record.entries, teacher.num_layers
        width = packed_bytes(k, teacher.vocab_size)
        return [
            ArrayRecord(kind="top_k/ids", layer=layer, width=width, dtype="uint8"),
            ArrayRecord(kind="top_k/codes", layer=layer, width=k, dtype="uint8"),
            ArrayRecord(kind="top_k/scales", layer=layer, width=2, dtype="float16"),
        ]

    def are_packed(self, record: SparseRecord, arrays: Sequence[ArrayRecord]) -> bool:
        """All but the bytes of the ids."""
        found = [(array.kind, array.dtype, array.width) for array in arrays]
        codes, scales = ("top_k/codes", "uint8", record.entries), ("top_k/scales", "float16", 2)
        return [kind[:2] for kind in found[:1]] == [("top_k/ids", "uint8")] and found[1:] == [codes, scales]

    def pack(
        self, ids_Nn: np.ndarray, values_Nm: np.ndarray, record: SparseRecord, teacher: TeacherRecord
    ) -> Sequence[np.ndarray]:
        """See `NextToken.pack`."""
        order_Nk = np.argsort(ids_Nn, axis=1)
        ids_Nk, values_Nk = (np.take_along_axis(array, order_Nk, 1) for array in (ids_Nn, values_Nm))
        codes_Nk, scales_N2 = pack_logprobs(values_Nk, values_Nm[:, -1])
        return pack_ids(ids_Nk, teacher.vocab_size), codes_Nk, scales_N2

    def find_loss(
        self, plain: Sequence[np.ndarray], packed: Sequence[Any], record: SparseRecord, teacher: TeacherRecord
    ) -> EncodingCost:
        """KL between the k + 1 events that were made and those that are read, of every row; bits per event."""
        ids_Nk, values_NE = plain
        found_ids_Nk, found_NE = self.unpack(packed, record, teacher)
        order_Nk = np.argsort(ids_Nk, axis=1)
        assert np.array_equal(np.take_along_axis(ids_Nk, order_Nk, 1), found_ids_Nk)
        true_NE = np.concatenate([np.take_along_axis(values_NE, order_Nk, 1), values_NE[:, -1:]], 1).astype(np.float64)
        kl_N = (np.exp(true_NE) * (true_NE - found_NE)).sum(1)
        bits = 8 * sum(values.nbytes for values in packed) / true_NE.size
        return EncodingCost.model_validate(
            {"rows": len(kl_N), "raw": 0, "bits": rounded(bits), "measured": 0, **describe_divergences(kl_N)}
        )

    def unpack_rows(self, *values: Any, record: SparseRecord, teacher: TeacherRecord) -> tuple[np.ndarray, np.ndarray]:
        """Ids [N, k], ascending, and log-probabilities [N, k + 1]."""
        ids, codes_Nk, scales_N2 = values
        return unpack_ids(ids, record.entries, teacher.vocab_size), unpack_logprobs(codes_Nk, scales_N2)

    def are_as_packed(self, values: Sequence[Any]) -> np.ndarray:
        """[N] bool: no step is negative, and the likeliest token's code is 0. Plain rows always are."""
        if len(values) == len(self.former):
            return super().are_as_packed(values)
        _, codes_Nk, scales_N2 = values
        return np.asarray((scales_N2[:, 0] >= 0) & (codes_Nk.min(axis=1) == 0))

    def are_distributions(self, ids_Nn: np.ndarray, values_Nm: np.ndarray) -> np.ndarray:
        """[N] bool: no id twice, and probabilities that are 1 in sum, tail included, to TOLERANCE."""
        once_N = (np.diff(np.sort(ids_Nn)) > 0).all(axis=1)
        sums_N = np.exp(values_Nm, dtype=np.float64).sum(axis=1)
        return np.asarray(once_N & (np.abs(sums_N - 1) <= TOLERANCE))


KIND = TopK()
