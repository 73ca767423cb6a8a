"""Ragged rows as lists of bytes."""

from itertools import pairwise

import numpy as np
from hypothesis import strategies as st

from schemas.cache.ragged import RaggedRows

# Few distinct sizes, often 0; numbers of rows around the multiples of 64.
LISTS = st.one_of(
    st.lists(st.binary(max_size=5), max_size=200),
    st.integers(0, 4).flatmap(lambda n: st.lists(st.binary(max_size=2), min_size=64 * n, max_size=64 * n)),
    st.lists(st.just(b""), max_size=130),
)


def ragged(rows: list[bytes]) -> RaggedRows:
    sizes = np.array([len(row) for row in rows], np.int64)
    return RaggedRows.of(np.frombuffer(b"".join(rows), np.uint8).copy(), sizes)


def listed(rows: RaggedRows) -> list[bytes]:
    return [rows.data[start:end].tobytes() for start, end in pairwise(rows.bounds)]
