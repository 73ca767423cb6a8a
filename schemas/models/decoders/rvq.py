"""Residual vector quantisation: rows of any number of bytes, and tables that were learnt of the layer."""

from pathlib import Path
from typing import Self

import torch
from torch import Tensor

from schemas.cache.arrays import ArrayRecord
from schemas.models.rvq import RVQTables
from schemas.models.rvq_file import load_tables
from schemas.models.state_decoder import FoldableDecoder


class RVQDecoder(FoldableDecoder):
    """Of the array's tables in CACHE/codecs."""

    name = "rvq"

    def __init__(self, tables: RVQTables):
        self.tables, self.raw_size = tables, tables.raw_size

    @classmethod
    def raw_size_of(cls, array: ArrayRecord) -> int:
        """Of bfloat16."""
        return 2 * (array.width or 1)

    @classmethod
    def load(cls, cache: Path, array: ArrayRecord) -> Self:
        """Raises CacheError: the tables are missing, altered, or not ones of rows of that width."""
        return cls(load_tables(cache, array))

    def to(self, device: torch.device) -> Self:
        """See `StateDecoder.to`."""
        return type(self)(self.tables.to(device))

    def states(self, data: Tensor, size_N: Tensor, raw_R: Tensor | None = None) -> Tensor:
        """See `RVQTables.states`."""
        return self.tables.states(data, size_N, raw_R)

    def coordinates(self, data: Tensor, size_N: Tensor, raw_R: Tensor | None = None) -> Tensor:
        """See `RVQTables.coordinates`."""
        return self.tables.coordinates(data, size_N, raw_R)

    @property
    def basis_Kd(self) -> Tensor:
        """See `RVQTables.basis_kd`: K is d."""
        return self.tables.basis_kd


DECODER = RVQDecoder
