"""The console that every command prints to: it shows what a user has named or written as it is, never as markup."""

from rich.console import Console


def make_console(stderr: bool = False) -> Console:
    """Without markup, which a sample's `[/INST]` would be, emoji codes, or colours guessed from the text."""
    return Console(stderr=stderr, markup=False, emoji=False, highlight=False)
