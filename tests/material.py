"""Real models, tokenizers and texts, if they lie beside the checkout. Tests that need them skip, visibly, without."""

from pathlib import Path

import pytest

MATERIAL = Path(__file__).resolve().parents[1].parent / "shared" / "material"
needs_material = pytest.mark.skipif(
    not MATERIAL.is_dir(), reason="needs the real models and texts in ../shared/material"
)
