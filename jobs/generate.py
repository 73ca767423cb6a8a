"""`stillroom generate`: texts that a student writes, to be extracted as one more corpus."""

from collections.abc import Sequence
from pathlib import Path

from schemas.configs.generation import GenerationConfig
from schemas.configs.yaml import load_config
from schemas.console import say
from schemas.progress import Progress


def run_generation(path: Path, overrides: Sequence[str]) -> None:
    """Generate, then say what was written and what was left out."""
    config = load_config(path, GenerationConfig, overrides)
    from trainer.generation.generate import generate  # torch takes seconds to import

    with _Shown() as shown:
        result = generate(config, shown.show)
    rate = result.tokens / result.seconds
    say(
        f"{result.path}: {result.texts:,} texts, {result.tokens:,} tokens in {result.seconds:.0f} s "
        f"({rate:,.0f} tokens/s)",
    )
    say(
        f"ended by the student: {result.ended:,}, cut at max_new_tokens: {result.texts - result.ended:,}; "
        f"left out: {result.blank:,} blank, {result.unusable:,} without a prompt to continue",
    )


class _Shown(Progress):
    """Counts from the first batch: loading is not its rate."""

    def __init__(self) -> None:
        super().__init__("generating", "samples", 0)
        self._first_tokens: int | None = None

    def show(self, done: int, total: int, tokens: int) -> None:
        """Show that `done` of `total` samples are written, `tokens` in all."""
        if self._first_tokens is None:
            self._first_tokens = tokens
            self.begin(done, total)
        self.update(done, tokens=tokens - self._first_tokens)
