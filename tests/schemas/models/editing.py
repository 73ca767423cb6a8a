"""Altering the files of a model folder."""

import json
from pathlib import Path


def edit(path: Path, **changes: object) -> None:
    """Give fields of a JSON object other values."""
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
