"""Rows as DistillKit compresses them (arcee-ai/DistillKit at a61c2e7d, distillkit/compression/).

compression_config.yaml: `d` tokens, `k` entries. A row of ids is k numbers of ceil(log2 d) bits, one after the other,
each from its highest bit on, the first bit of a byte its highest; zeros up to a whole byte. A row of log-probabilities,
likeliest first, is

exact_k numbers of `exact_dtype`
the coefficients of `polynomial_terms`, of `term_dtype`: what the others are about, as a sum of powers of 0, 1, 2, ...
    (`normalize_t`: of 0 to 1 in equal steps); `sqrt` and `exp` are terms, too
of each of `residual_bins` a scale of `scale_dtype` and `num_elements` codes of `element_bits` bits: what the next ones
    are beside that, code - 2^(bits - 1) times the scale; of one bit, -1 or 1 times it

and under `delta_encoding` all that is differences, to be summed up. Numbers are little endian.

Shapes: n rows, k entries, m others than the exact ones.
"""

from collections.abc import Sequence
from math import ceil, log2
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import BaseModel, Field, ValidationError

from schemas.configs.parse import parse_yaml
from schemas.errors import ConfigError, CorpusError

CONFIG = "compression_config.yaml"
MOST_BYTES = 1 << 20
TermDtype = Literal["float16", "bfloat16", "float32", "float64"]
BYTES: dict[str, int] = {"float16": 2, "bfloat16": 2, "float32": 4, "float64": 8}


class ResidualBin(BaseModel):
    """Codes of some entries, and their scale."""

    scale_dtype: TermDtype
    element_bits: Annotated[int, Field(ge=1, le=32)]
    num_elements: Annotated[int, Field(ge=1, le=100_000)]


class Compression(BaseModel):
    """The whole of compression_config.yaml."""

    d: Annotated[int, Field(ge=2, le=2**31)]
    k: Annotated[int, Field(ge=1, le=100_000)]
    exact_k: Annotated[int, Field(ge=0, le=100_000)]
    exact_dtype: TermDtype = "float32"
    polynomial_terms: list[int | Literal["sqrt", "exp"]] | None = None
    term_dtype: TermDtype = "float32"
    residual_bins: list[ResidualBin]
    delta_encoding: bool = True
    error_diffusion: bool = False
    normalize_t: bool = False

    def unpack(
        self, ids: Sequence[np.ndarray], logprobs: Sequence[np.ndarray], place: str
    ) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Of each position [k] ids and log-probabilities. Raises CorpusError for rows of other sizes."""
        wanted = -(-self.k * self._index_bits // 8), self._logprob_bytes
        for name, rows, size in zip(
            ("bytepacked_indices", "compressed_logprobs"), (ids, logprobs), wanted, strict=True
        ):
            if wrong := [len(row) for row in rows if len(row) != size]:
                raise CorpusError(f"{place}: {name} has a row of {wrong[0]} bytes, and {CONFIG} makes rows of {size}")
        if len(ids) != len(logprobs):
            raise CorpusError(
                f"{place}: {len(ids)} rows of bytepacked_indices and {len(logprobs)} of compressed_logprobs"
            )
        if not ids:
            return [], []
        return list(_codes(np.stack(ids), self.k, self._index_bits)), list(self._logprobs(np.stack(logprobs)))

    @property
    def _index_bits(self) -> int:
        return ceil(log2(self.d))

    @property
    def _logprob_bytes(self) -> int:
        bins = sum(BYTES[b.scale_dtype] + -(-b.element_bits * b.num_elements // 8) for b in self.residual_bins)
        terms = len(self.polynomial_terms or ()) * BYTES[self.term_dtype]
        return self.exact_k * BYTES[self.exact_dtype] + terms + bins

    def _logprobs(self, bytes_nx: np.ndarray) -> np.ndarray:
        exact, rest = _split(bytes_nx, self.exact_k * BYTES[self.exact_dtype])
        coefficients, rest = _split(rest, len(self.polynomial_terms or ()) * BYTES[self.term_dtype])
        residual_nm = np.zeros((len(bytes_nx), self.k - self.exact_k))
        done = 0
        for each in self.residual_bins:
            scale, rest = _split(rest, BYTES[each.scale_dtype])
            codes, rest = _split(rest, -(-each.element_bits * each.num_elements // 8))
            codes_nm = _codes(codes, each.num_elements, each.element_bits)
            signed = 2 * codes_nm - 1 if each.element_bits == 1 else codes_nm - (1 << (each.element_bits - 1))
            residual_nm[:, done : done + each.num_elements] = signed * _numbers(scale, each.scale_dtype)
            done += each.num_elements
        if self.polynomial_terms:
            residual_nm += _numbers(coefficients, self.term_dtype) @ self._terms(residual_nm.shape[1])
        found = np.concatenate([_numbers(exact, self.exact_dtype), residual_nm], axis=1)
        return np.cumsum(found, axis=1) if self.delta_encoding else found

    def _terms(self, count: int) -> np.ndarray:
        """[terms, m]."""
        place = np.linspace(0, 1, count) if self.normalize_t else np.arange(count, dtype=np.float64)
        special = {"sqrt": np.sqrt, "exp": np.exp}
        terms = self.polynomial_terms or []
        return np.stack([special[term](place) if isinstance(term, str) else place**term for term in terms])


def read_compression(folder: Path) -> Compression | None:
    """compression_config.yaml in a folder, None if there is none. Raises ConfigError for what it cannot be."""
    path = folder / CONFIG
    if not path.is_file():
        return None
    if path.stat().st_size > MOST_BYTES:
        raise ConfigError(f"{path} is larger than such a file is; give the one that DistillKit wrote")
    try:
        found = Compression.model_validate(parse_yaml(path.read_text(encoding="utf-8"), str(path))[1])
    except (ValidationError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not DistillKit's: {' '.join(str(error).split())[:300]}") from error
    others = sum(each.num_elements for each in found.residual_bins)
    if found.exact_k + others > found.k or any(term < 0 for term in found.polynomial_terms or () if type(term) is int):
        raise ConfigError(f"{path} is not DistillKit's: its parts have more than k entries, or a power is negative")
    return found


def _split(bytes_nx: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    return bytes_nx[:, :count], bytes_nx[:, count:]


def _numbers(bytes_nx: np.ndarray, dtype: str) -> np.ndarray:
    """Float64 of numbers of a dtype."""
    if not bytes_nx.shape[1]:
        return np.empty((len(bytes_nx), 0))
    whole = torch.from_numpy(bytes_nx.copy())
    found: np.ndarray = whole.view(getattr(torch, dtype)).double().numpy()
    return found


def _codes(bytes_nx: np.ndarray, count: int, bits: int) -> np.ndarray:
    """[n, count] int64 of numbers of so many bits, the highest first."""
    unpacked = np.unpackbits(np.ascontiguousarray(bytes_nx), axis=1, count=count * bits).reshape(-1, count, bits)
    powers: Any = 1 << np.arange(bits - 1, -1, -1, dtype=np.int64)
    found: np.ndarray = unpacked.astype(np.int64) @ powers
    return found
