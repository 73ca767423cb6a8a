"""Where each of millions of digests is, in 16 bytes of memory each."""

import numpy as np

FEW = 1 << 16


class Index:
    """Places by 64-bit keys. What was added last stands in a dictionary, until it is worth sorting in."""

    def __init__(self) -> None:
        self._keys, self._places = np.empty(0, np.uint64), np.empty(0, np.int64)
        self._recent: dict[int, int] = {}

    def __len__(self) -> int:
        return len(self._keys) + len(self._recent)

    def add(self, keys: np.ndarray, first: int) -> None:
        """The `keys` [N] uint64 are at places `first`, `first` + 1, ...; one that is known stays where it was."""
        new = np.flatnonzero(~self._are_sorted_in(keys))
        for key, place in zip(keys[new].tolist(), (first + new).tolist(), strict=True):
            self._recent.setdefault(key, place)
        if len(self._recent) > max(FEW, len(self._keys) // 8):
            self._sort_in()

    def find(self, key: int) -> int | None:
        """The place of a key, None for one that was never added."""
        found = self._recent.get(key)
        if found is not None or not len(self._keys):
            return found
        at = int(np.searchsorted(self._keys, np.uint64(key)))
        return int(self._places[at]) if at < len(self._keys) and int(self._keys[at]) == key else None

    def _are_sorted_in(self, keys: np.ndarray) -> np.ndarray:
        if not len(self._keys):
            return np.zeros(len(keys), bool)
        found: np.ndarray = self._keys[np.searchsorted(self._keys, keys).clip(max=len(self._keys) - 1)] == keys
        return found

    def _sort_in(self) -> None:
        keys = np.concatenate([self._keys, np.fromiter(self._recent, np.uint64)])
        places = np.concatenate([self._places, np.fromiter(self._recent.values(), np.int64)])
        order = np.argsort(keys)
        self._keys, self._places, self._recent = keys[order], places[order], {}
