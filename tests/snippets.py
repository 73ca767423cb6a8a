"""The Python of a README, as it stands there."""

from pathlib import Path

FORMAT = Path(__file__).resolve().parents[1] / "schemas/cache/README.md"


def snippet(text: str, readme: Path = FORMAT) -> str:
    """The one block of code that has `text` in it."""
    blocks = [block.split("```")[0] for block in readme.read_text(encoding="utf-8").split("```python\n")[1:]]
    (found,) = (block for block in blocks if text in block)
    return found
