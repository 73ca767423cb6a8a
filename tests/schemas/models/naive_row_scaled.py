"""Codes with a row scale, decoded byte by byte in float64."""

import numpy as np


def decode(encoding: str, rows_Nx: np.ndarray) -> np.ndarray:
    """[N, d] of uint8 [N, d + 4]."""
    value = {"fp8": _float8, "int8": _int8}[encoding]
    codes, scales = rows_Nx[:, :-4], np.ascontiguousarray(rows_Nx[:, -4:]).view("<f4").astype(np.float64)
    return np.array([[value(int(code)) for code in row] for row in codes]).reshape(codes.shape) * scales


def _int8(code: int) -> float:
    return code - 256 if code >= 128 else code


def _float8(code: int) -> float:
    """E4M3: a sign, four bits of exponent, three of mantissa; the largest of all is not a number."""
    sign, exponent, mantissa = 1 - 2 * (code >> 7), (code >> 3) & 15, code & 7
    if (exponent, mantissa) == (15, 7):
        return float("nan")
    return sign * (mantissa / 8 * 2.0**-6 if exponent == 0 else (1 + mantissa / 8) * 2.0 ** (exponent - 7))
