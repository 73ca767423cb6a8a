"""Numbers that were made once from the authors' code, and how near ours must come to them.

tests/golden/references/*.json says by which repository, commit, file and function, and from what. Nothing of theirs is
run or copied here.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch

GOLDEN = Path(__file__).parents[2] / "golden" / "references"


class Golden(dict[str, Any]):
    """The arrays of one file, as attributes too."""

    def __getattr__(self, name: str) -> Any:
        return self[name]


def golden(name: str) -> Golden:
    with np.load(GOLDEN / f"{name}.npz") as held:
        return Golden({key: torch.from_numpy(held[key]) for key in held.files})


def same(ours: torch.Tensor, theirs: torch.Tensor, tolerance: float = 1e-5) -> None:
    torch.testing.assert_close(ours.double(), theirs.double(), rtol=tolerance, atol=tolerance)


def different(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    """By far more than rounding."""
    assert (ours.double() - theirs.double()).abs().max() > 1e-3 * theirs.double().abs().max()
