"""The console that every command prints to: it shows what a user has named or written as it is, never as markup."""

from typing import NoReturn

from rich.console import Console


class _OpenEnded(Console):
    """Leaves it to the command what a closed pipe means, where rich itself would end it with code 1."""

    def on_broken_pipe(self) -> NoReturn:
        """Called by rich while the error is handled. Raises BrokenPipeError, once: what is still held is dropped."""
        self.quiet = True
        raise BrokenPipeError


def make_console(stderr: bool = False) -> Console:
    """Without markup, which a sample's `[/INST]` would be, emoji codes, or colours guessed from the text."""
    return _OpenEnded(stderr=stderr, markup=False, emoji=False, highlight=False)
