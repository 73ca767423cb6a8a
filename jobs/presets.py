"""Presets: a paper's constants as a part of a training config, which `preset: NAME` lays beneath the user's own."""

from pathlib import Path

from rich.table import Table

from schemas.console import make_console
from schemas.errors import ConfigError
from schemas.shown import quoted

PRESETS = Path(__file__).parent / "configs" / "presets"


def preset_names() -> list[str]:
    """What `preset` may say in a training config, in alphabetical order."""
    return sorted(path.stem for path in PRESETS.glob("*.yaml"))


def show_presets(name: str | None) -> None:
    """List the presets, or print one as YAML. Raises ConfigError for an unknown name."""
    console = make_console()
    if name is not None:
        console.print(_read(name), end="", soft_wrap=True)
        return
    table = Table("preset", "what it is", box=None, pad_edge=False)
    for path in sorted(PRESETS.glob("*.yaml")):
        title = path.read_text(encoding="utf-8").splitlines()[0].removeprefix("# ")
        table.add_row(path.stem, title)
    console.print(table)
    console.print("\nWrite `preset: NAME` into a training config; the config's own values override the preset's.")


def _read(name: str) -> str:
    names = preset_names()
    if name not in names:
        raise ConfigError(f"unknown preset {quoted(name)}; available: {', '.join(names)}")
    return (PRESETS / f"{name}.yaml").read_text(encoding="utf-8")
