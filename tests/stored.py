"""What any Zarr reader finds in a shard: read with zarr-python alone."""

from pathlib import Path

import numpy as np
import zarr


def stored(states: Path, name: str) -> np.ndarray:
    """The array `name` of the group at `states`, whole."""
    return np.asarray(opened(states, name)[...])


def opened(states: Path, name: str) -> "zarr.Array[zarr.core.metadata.v3.ArrayV3Metadata]":
    """The same, unread."""
    array = zarr.open_group(states, mode="r")[name]
    assert isinstance(array, zarr.Array)
    return array
